#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace klein {

/// The parts of making a picture, in their order.
enum class Stage { download, load, encode_text, encode_image, denoise, decode, save };

/// "download", "load", "encode_text", "encode_image", ...: the keys of every timing report.
constexpr const char* name_of(Stage stage) {
  switch (stage) {
    case Stage::download:
      return "download";
    case Stage::load:
      return "load";
    case Stage::encode_text:
      return "encode_text";
    case Stage::encode_image:
      return "encode_image";
    case Stage::denoise:
      return "denoise";
    case Stage::decode:
      return "decode";
    case Stage::save:
      return "save";
  }
  return "";
}

/// Where the work stands: `done` of `total` units of `stage` are finished.
///
/// Every stage reports at least twice: once with done = 0 and once with done = total. A download
/// counts bytes; its total is 0 while it is unknown, and may grow.
struct Progress {
  Stage stage;
  std::int64_t done = 0;
  std::int64_t total = 1;
  std::string_view note = {};  ///< A sentence about how the work will be done, mostly empty.
};

/// Called on the thread that works. Returns false to stop; the work then ends with
/// Error(cancelled) at the next step.
using ProgressCallback = std::function<bool(const Progress&)>;

}  // namespace klein
