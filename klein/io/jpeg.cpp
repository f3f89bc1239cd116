#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <jpeglib.h>

#include "klein/core/error.h"
#include "klein/io/image_codecs.h"

// After jpeglib.h, which declares the types of the codes.
#include <jerror.h>

namespace klein::io::detail {

namespace {

// As in png.cpp: functions that call setjmp have only plain locals, owners live in their callers.

constexpr int kExifMarker = JPEG_APP0 + 1;
constexpr int kMaxScans = 500;  // a small progressive file can ask for hours of scans

struct ErrorManager {
  jpeg_error_mgr base{};  // first: libjpeg hands back its address
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX] = {};
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, manager->message);
  std::longjmp(manager->jump, 1);
}

/// libjpeg fills in for data that is not there and only warns; a picture cut short is an error.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  ++info->err->num_warnings;
  const int code = info->err->msg_code;
  if (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER) on_error(info);
}

void on_output(j_common_ptr) {}

jpeg_error_mgr* install(ErrorManager& manager) {
  jpeg_std_error(&manager.base);
  manager.base.error_exit = on_error;
  manager.base.emit_message = on_message;
  manager.base.output_message = on_output;
  return &manager.base;
}

void on_progress(j_common_ptr info) {
  if (!info->is_decompressor) return;
  auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (decoder->input_scan_number <= kMaxScans) return;
  auto* manager = reinterpret_cast<ErrorManager*>(info->err);
  std::snprintf(manager->message, sizeof manager->message, "more than %d scans", kMaxScans);
  std::longjmp(manager->jump, 1);
}

struct Decoder {
  jpeg_decompress_struct info{};
  jpeg_progress_mgr progress{};
  ErrorManager errors;

  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { jpeg_destroy_decompress(&info); }
};

bool read_header(Decoder& decoder, std::span<const std::byte> bytes) {
  decoder.info.err = install(decoder.errors);
  if (setjmp(decoder.errors.jump) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  decoder.progress.progress_monitor = on_progress;
  decoder.info.progress = &decoder.progress;
  jpeg_save_markers(&decoder.info, kExifMarker, 0xFFFF);
  jpeg_mem_src(&decoder.info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

J_COLOR_SPACE colours_of(int components) {
  if (components == 1) return JCS_GRAYSCALE;
  return components == 3 ? JCS_RGB : JCS_CMYK;
}

/// Rows of as many channels as the file has, each to the start of its row of `row_bytes`.
bool read_rows(Decoder& decoder, JSAMPLE* pixels, std::size_t row_bytes) {
  if (setjmp(decoder.errors.jump) != 0) return false;
  decoder.info.out_color_space = colours_of(decoder.info.num_components);
  jpeg_start_decompress(&decoder.info);
  while (decoder.info.output_scanline < decoder.info.output_height) {
    JSAMPROW row = pixels + decoder.info.output_scanline * row_bytes;
    jpeg_read_scanlines(&decoder.info, &row, 1);
  }
  jpeg_finish_decompress(&decoder.info);
  return true;
}

/// Ink to light. The inks are inverted, as Adobe's programs write them and Pillow takes them:
/// 255 is none.
///
/// Source   Pillow, Convert.c: cmyk2rgb
void from_cmyk(const std::vector<JSAMPLE>& inks, std::vector<std::uint8_t>& rgb) {
  for (std::size_t at = 0, out = 0; out < rgb.size(); at += 4, out += 3) {
    const int light = inks[at + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int product = (255 - inks[at + c]) * light + 128;
      rgb[out + c] = static_cast<std::uint8_t>(light - (((product >> 8) + product) >> 8));
    }
  }
}

std::vector<std::byte> exif_of(const Decoder& decoder) {
  constexpr std::string_view kPrefix("Exif\0\0", 6);
  for (auto* marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
    const auto* start = reinterpret_cast<const std::byte*>(marker->data);
    const std::string_view text(reinterpret_cast<const char*>(start), marker->data_length);
    if (marker->marker == kExifMarker && text.starts_with(kPrefix))
      return {start, start + text.size()};
  }
  return {};
}

struct Encoder {
  jpeg_compress_struct info{};
  ErrorManager errors;
  unsigned char* bytes = nullptr;
  unsigned long size = 0;

  Encoder() = default;
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;
  ~Encoder() {
    jpeg_destroy_compress(&info);
    std::free(bytes);
  }
};

bool write_picture(Encoder& encoder, const Image& image, int quality) {
  encoder.info.err = install(encoder.errors);
  if (setjmp(encoder.errors.jump) != 0) return false;
  jpeg_create_compress(&encoder.info);
  jpeg_mem_dest(&encoder.info, &encoder.bytes, &encoder.size);
  encoder.info.image_width = static_cast<JDIMENSION>(image.width);
  encoder.info.image_height = static_cast<JDIMENSION>(image.height);
  encoder.info.input_components = 3;
  encoder.info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder.info);
  jpeg_set_quality(&encoder.info, quality, TRUE);
  encoder.info.optimize_coding = TRUE;
  // 4:4:4: with halved colour, red on white smears.
  encoder.info.comp_info[0].h_samp_factor = 1;
  encoder.info.comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(&encoder.info, TRUE);
  while (encoder.info.next_scanline < encoder.info.image_height) {
    // libjpeg takes a pointer to a writable row and only reads it.
    auto* row = const_cast<JSAMPROW>(image.rgb.data()) +
                std::size_t{3} * encoder.info.next_scanline * static_cast<std::size_t>(image.width);
    jpeg_write_scanlines(&encoder.info, &row, 1);
  }
  jpeg_finish_compress(&encoder.info);
  return true;
}

}  // namespace

Decoded decode_jpeg(std::span<const std::byte> bytes, const std::string& name) {
  Decoder decoder;
  if (!read_header(decoder, bytes)) fail_decoding("JPEG", decoder.errors.message, name);
  const int components = decoder.info.num_components;
  if (components != 1 && components != 3 && components != 4)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a grey, RGB or CMYK JPEG, got one with {} channels: {}",
                            components, name),
                "Convert the picture to RGB first");
  Picture picture = make_picture(decoder.info.image_width, decoder.info.image_height,
                                 components == 1 ? PictureMode::grey : PictureMode::rgb, name);
  const std::size_t row_bytes =
      std::size_t{decoder.info.image_width} * static_cast<std::size_t>(components);
  auto exif = exif_of(decoder);  // libjpeg forgets it with the last row
  std::vector<JSAMPLE> inks(components == 4 ? row_bytes * decoder.info.image_height : 0);
  if (!read_rows(decoder, components == 4 ? inks.data() : picture.pixels.data(), row_bytes))
    fail_decoding("JPEG", decoder.errors.message, name);
  if (components == 4) from_cmyk(inks, picture.pixels);
  return {std::move(picture), std::move(exif)};
}

std::vector<std::byte> encode_jpeg(const Image& image, int quality) {
  Encoder encoder;
  if (!write_picture(encoder, image, quality))
    throw Error(ErrorKind::internal,
                fmt::format("cannot encode a JPEG ({})", encoder.errors.message));
  const auto* start = reinterpret_cast<const std::byte*>(encoder.bytes);
  return {start, start + encoder.size};
}

}  // namespace klein::io::detail
