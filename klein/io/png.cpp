#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include <fmt/format.h>
#include <png.h>

#include "klein/core/error.h"
#include "klein/io/image_codecs.h"
#include "klein/io/text.h"

namespace klein::io::detail {

namespace {

// libpng reports errors by longjmp, which skips destructors. So every function that calls setjmp
// here has only plain locals, none of them changed after setjmp; whatever owns memory lives in the
// caller, which sees the error as `false`.

struct Failure {
  char message[160] = {};
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* failure = static_cast<Failure*>(png_get_error_ptr(png));
  std::strncpy(failure->message, message, sizeof failure->message - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const std::byte> rest;

  Reader(std::span<const std::byte> bytes, Failure& failure) : rest(bytes) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning);
    if (png != nullptr) info = png_create_info_struct(png);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void read_bytes(png_structp png, png_bytep target, png_size_t count) {
  auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
  if (count > reader->rest.size()) png_error(png, "the file ends too early");
  std::memcpy(target, reader->rest.data(), count);
  reader->rest = reader->rest.subspan(count);
}

/// Reads up to the pixels. Nothing here takes memory for the size that the file claims.
bool read_header(Reader& reader) {
  png_structp png = reader.png;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &reader, read_bytes);
  // Sides are checked by make_image; libpng's own limits would give another message.
  png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_read_info(png, reader.info);
  return true;
}

/// Asks for 8 bits a channel without palettes; afterwards the length of a row is known.
bool start_rows(Reader& reader) {
  png_structp png = reader.png;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  const auto colour = png_get_color_type(png, reader.info);
  if (colour == PNG_COLOR_TYPE_PALETTE) {
    png_set_palette_to_rgb(png);
    if (png_get_valid(png, reader.info, PNG_INFO_tRNS) != 0) png_set_tRNS_to_alpha(png);
  }
  if (colour == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  png_set_strip_16(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, reader.info);
  return true;
}

bool read_rows(Reader& reader, png_bytepp rows) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_read_image(reader.png, rows);
  png_read_end(reader.png, reader.info);  // eXIf may stand behind the pixels
  return true;
}

struct Writer {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::vector<std::byte> bytes;
  bool out_of_memory = false;

  explicit Writer(Failure& failure) {
    png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &failure, on_error, on_warning);
    if (png != nullptr) info = png_create_info_struct(png);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() { png_destroy_write_struct(&png, &info); }
};

void write_bytes(png_structp png, png_bytep source, png_size_t count) {
  auto* writer = static_cast<Writer*>(png_get_io_ptr(png));
  try {
    const auto* start = reinterpret_cast<const std::byte*>(source);
    writer->bytes.insert(writer->bytes.end(), start, start + count);
  } catch (const std::bad_alloc&) {
    writer->out_of_memory = true;  // neither an exception nor a longjmp may leave this block
  }
  if (writer->out_of_memory) png_error(png, "out of memory");
}

void flush(png_structp) {}

bool write_picture(Writer& writer, const Image& image, int level, png_textp text, int text_count,
                   png_bytepp rows) {
  png_structp png = writer.png;
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_write_fn(png, &writer, write_bytes, flush);
  png_set_compression_level(png, level);
  png_set_IHDR(png, writer.info, static_cast<png_uint_32>(image.width),
               static_cast<png_uint_32>(image.height), 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_set_sRGB(png, writer.info, PNG_sRGB_INTENT_PERCEPTUAL);
  if (text_count > 0) png_set_text(png, writer.info, text, text_count);
  png_write_info(png, writer.info);
  png_write_image(png, rows);
  png_write_end(png, nullptr);
  return true;
}

std::vector<png_bytep> rows_of(png_bytep start, int height, std::size_t row_bytes) {
  std::vector<png_bytep> rows(static_cast<std::size_t>(height));
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = start + y * row_bytes;
  return rows;
}

PictureMode mode_of(const Reader& reader) {
  switch (png_get_color_type(reader.png, reader.info)) {
    case PNG_COLOR_TYPE_GRAY:
      return PictureMode::grey;
    case PNG_COLOR_TYPE_GRAY_ALPHA:
      return PictureMode::grey_alpha;
    case PNG_COLOR_TYPE_PALETTE:
      return png_get_valid(reader.png, reader.info, PNG_INFO_tRNS) != 0 ? PictureMode::rgba
                                                                        : PictureMode::rgb;
    case PNG_COLOR_TYPE_RGB_ALPHA:
      return PictureMode::rgba;
    default:
      return PictureMode::rgb;
  }
}

std::vector<std::byte> exif_of(const Reader& reader) {
  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &exif) == 0 || exif == nullptr) return {};
  const auto* start = reinterpret_cast<const std::byte*>(exif);
  return {start, start + size};
}

/// libpng only warns about a keyword that it cannot write, and then leaves the text out.
void check_keyword(const std::string& keyword) {
  bool valid = !keyword.empty() && keyword.size() <= 79 && keyword.front() != ' ' &&
               keyword.back() != ' ' && keyword.find("  ") == keyword.npos;
  for (const unsigned char c : keyword) valid = valid && c >= 32 && !(c >= 127 && c < 161);
  if (!valid)
    throw Error(ErrorKind::usage,
                fmt::format("expected a PNG keyword of 1 to 79 printable Latin-1 characters, got "
                            "{}",
                            in_quotes(keyword)));
}

std::vector<png_text> text_chunks(const EncodeOptions& options) {
  std::vector<png_text> chunks;
  for (const auto& [keyword, text] : options.text) {
    check_keyword(keyword);
    if (text.find('\0') != text.npos)
      throw Error(ErrorKind::usage, fmt::format("expected a PNG text without zero bytes under {}",
                                                in_quotes(keyword)));
    const bool ascii =
        std::all_of(text.begin(), text.end(), [](unsigned char c) { return c < 128; });
    png_text chunk{};
    // tEXt is Latin-1; everything else has to be iTXt.
    chunk.compression = ascii ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    chunk.key = const_cast<png_charp>(keyword.c_str());
    chunk.text = const_cast<png_charp>(text.c_str());
    (ascii ? chunk.text_length : chunk.itxt_length) = text.size();
    chunks.push_back(chunk);
  }
  return chunks;
}

}  // namespace

Decoded decode_png(std::span<const std::byte> bytes, const std::string& name) {
  Failure failure;
  Reader reader(bytes, failure);
  if (reader.info == nullptr) fail_memory();
  if (!read_header(reader)) fail_decoding("PNG", failure.message, name);
  Picture picture =
      make_picture(png_get_image_width(reader.png, reader.info),
                   png_get_image_height(reader.png, reader.info), mode_of(reader), name);
  picture.indexed = png_get_color_type(reader.png, reader.info) == PNG_COLOR_TYPE_PALETTE ||
                    png_get_bit_depth(reader.png, reader.info) == 1;
  if (!start_rows(reader)) fail_decoding("PNG", failure.message, name);
  const auto row_bytes = png_get_rowbytes(reader.png, reader.info);
  if (row_bytes * static_cast<std::size_t>(picture.height) != picture.pixels.size())
    fail_decoding("PNG", "rows of an unexpected length", name);
  auto rows = rows_of(picture.pixels.data(), picture.height, row_bytes);
  if (!read_rows(reader, rows.data())) fail_decoding("PNG", failure.message, name);
  return {std::move(picture), exif_of(reader)};
}

std::vector<std::byte> encode_png(const Image& image, const EncodeOptions& options) {
  auto chunks = text_chunks(options);
  // libpng takes pointers to writable rows for reading and writing alike; it only reads here.
  auto rows = rows_of(const_cast<png_bytep>(image.rgb.data()), image.height,
                      3 * static_cast<std::size_t>(image.width));
  Failure failure;
  Writer writer(failure);
  if (writer.info == nullptr) fail_memory();
  if (!write_picture(writer, image, options.png_level, chunks.data(),
                     static_cast<int>(chunks.size()), rows.data())) {
    if (writer.out_of_memory) fail_memory();
    throw Error(ErrorKind::internal, fmt::format("cannot encode a PNG ({})", failure.message));
  }
  return std::move(writer.bytes);
}

}  // namespace klein::io::detail
