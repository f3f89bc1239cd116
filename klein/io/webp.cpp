#include <utility>

#include <fmt/format.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>

#include "klein/core/error.h"
#include "klein/io/image_codecs.h"

namespace klein::io::detail {

namespace {

constexpr int kLosslessEffort = 6;  // of 0 to 9; beyond it seconds buy a percent

struct EncodedPicture {
  WebPPicture value{};
  WebPMemoryWriter writer{};

  EncodedPicture() {
    WebPMemoryWriterInit(&writer);
    if (!WebPPictureInit(&value))
      throw Error(ErrorKind::internal, "another libwebp than built for");
  }
  EncodedPicture(const EncodedPicture&) = delete;
  EncodedPicture& operator=(const EncodedPicture&) = delete;
  ~EncodedPicture() {
    WebPPictureFree(&value);
    WebPMemoryWriterClear(&writer);
  }
};

const char* complaint(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
      return "the file ends too early";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "it uses an unknown feature";
    default:
      return "its data is damaged";
  }
}

std::vector<std::byte> exif_of(std::span<const std::byte> bytes) {
  const WebPData data{reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()};
  std::vector<std::byte> exif;
  WebPDemuxer* demuxer = WebPDemux(&data);
  WebPChunkIterator chunk;
  if (demuxer != nullptr && WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk) != 0) {
    const auto* start = reinterpret_cast<const std::byte*>(chunk.chunk.bytes);
    exif.assign(start, start + chunk.chunk.size);
    WebPDemuxReleaseChunkIterator(&chunk);
  }
  WebPDemuxDelete(demuxer);
  return exif;
}

}  // namespace

Decoded decode_webp(std::span<const std::byte> bytes, const std::string& name) {
  const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config))
    throw Error(ErrorKind::internal, "another libwebp than built for");
  const auto header = WebPGetFeatures(data, bytes.size(), &config.input);
  if (header != VP8_STATUS_OK) fail_decoding("WebP", complaint(header), name);
  if (config.input.has_animation)
    throw Error(ErrorKind::unsupported,
                fmt::format("expected a still picture, got an animated WebP: {}", name));
  const auto mode = config.input.has_alpha ? PictureMode::rgba : PictureMode::rgb;
  Picture picture = make_picture(static_cast<std::uint64_t>(config.input.width),
                                 static_cast<std::uint64_t>(config.input.height), mode, name);
  config.output.colorspace = config.input.has_alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = picture.pixels.data();
  config.output.u.RGBA.size = picture.pixels.size();
  config.output.u.RGBA.stride = channels(mode) * picture.width;
  const auto status = WebPDecode(data, bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (status == VP8_STATUS_OUT_OF_MEMORY) fail_memory();
  if (status != VP8_STATUS_OK) fail_decoding("WebP", complaint(status), name);
  return {std::move(picture), exif_of(bytes)};
}

std::vector<std::byte> encode_webp(const Image& image, int quality, bool lossless) {
  WebPConfig config;
  if (!WebPConfigPreset(&config, WEBP_PRESET_DEFAULT, static_cast<float>(quality)) ||
      (lossless && !WebPConfigLosslessPreset(&config, kLosslessEffort)))
    throw Error(ErrorKind::internal, "another libwebp than built for");

  EncodedPicture picture;
  picture.value.use_argb = lossless ? 1 : 0;
  picture.value.width = image.width;
  picture.value.height = image.height;
  picture.value.writer = WebPMemoryWrite;
  picture.value.custom_ptr = &picture.writer;
  if (!WebPPictureImportRGB(&picture.value, image.rgb.data(), 3 * image.width)) fail_memory();
  if (!WebPEncode(&config, &picture.value)) {
    const auto code = picture.value.error_code;
    if (code == VP8_ENC_ERROR_OUT_OF_MEMORY || code == VP8_ENC_ERROR_BITSTREAM_OUT_OF_MEMORY)
      fail_memory();
    if (code == VP8_ENC_ERROR_PARTITION0_OVERFLOW || code == VP8_ENC_ERROR_PARTITION_OVERFLOW)
      throw Error(ErrorKind::unsupported,
                  fmt::format("expected a picture that fits a lossy WebP, got {} x {}", image.width,
                              image.height),
                  "Save it as PNG, or as WebP without loss");
    throw Error(ErrorKind::internal,
                fmt::format("cannot encode a WebP (code {})", static_cast<int>(code)));
  }
  const auto* start = reinterpret_cast<const std::byte*>(picture.writer.mem);
  return {start, start + picture.writer.size};
}

}  // namespace klein::io::detail
