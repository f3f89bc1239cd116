#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "klein/pipeline/request.h"

namespace CLI {
class App;
}

namespace klein::cli {

/// The pictures of a command line, as they were typed; they are read when it is settled.
struct PictureOptions {
  std::vector<std::string> init_words;                            ///< --image FILE [STRENGTH]
  std::optional<std::filesystem::path> init_path;                 ///< --image-path
  std::optional<double> init_strength;                            ///< --image-strength
  std::vector<std::filesystem::path> references;                  ///< --image-paths
  std::optional<std::filesystem::path> picture, mask, reference;  ///< Of inpainting.
  InpaintRequest inpaint;                                         ///< Without its pictures.

  /// Asked for a last word behind a list of files that is none; whether it took it.
  std::function<bool(const std::string&)> take_prompt = {};

  /// Reads the pictures into the request.
  ///
  /// Errors   Error(usage) for a strength that is no number, more than one picture, both spellings
  ///          at once; as io::load_picture
  void fill(GenerateRequest& request) const;
};

/// --image FILE [STRENGTH], and mflux's --image-path and --image-strength.
void add_init_image_flags(CLI::App& command, PictureOptions& options);

/// --image-paths FILE..., --kv-cache.
void add_reference_flags(CLI::App& command, PictureOptions& options, GenerateRequest& request);

/// --image, --mask, --strength, --reference, --padding-mask-crop, --preserve, --soft-mask,
/// --expand.
void add_inpaint_flags(CLI::App& command, PictureOptions& options);

/// A side of a picture that was asked for as a multiple of another one's, in whole tokens.
///
/// Errors   Error(usage) where the request has no picture to scale
int scaled_side(double scale, bool is_width, const GenerateRequest& request);

}  // namespace klein::cli
