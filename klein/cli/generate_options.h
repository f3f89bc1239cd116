#pragma once

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "klein/cli/lora_flags.h"
#include "klein/cli/picture_options.h"
#include "klein/engine/engine.h"

namespace CLI {
class App;
}

namespace klein::cli {

/// Everything that `klein generate`, `edit` or `inpaint` was told.
struct GenerateOptions {
  EngineOptions engine;
  LoraFlags loras;
  PictureOptions pictures;
  GenerateRequest request;  ///< Of every picture; prompt, seed and file names are filled in later.

  std::optional<std::string> prompt_argument;        ///< The positional PROMPT.
  std::optional<std::string> prompt_flag;            ///< `-` is standard input.
  std::optional<std::filesystem::path> prompt_file;  ///< Read again for every picture or batch.
  std::vector<std::uint64_t> seeds;
  std::optional<int> auto_seeds;                    ///< How many seeds to draw.
  std::optional<int> batch;                         ///< How many of them are painted at once.
  std::optional<double> width_scale, height_scale;  ///< Of the picture's own sides.
  std::filesystem::path output = "image.png";
  std::optional<std::filesystem::path> save_latents, save_prompt_embeds;
  std::optional<std::filesystem::path> stepwise_folder;  ///< Gets a picture after every step.
  bool overwrite = false;
  bool quiet = false;
  bool json = false;

  /// What to tell the person about these options.
  std::vector<std::string> warnings;

  /// Settles what several flags decide together, and checks all that can be checked without a
  /// model: the prompt has one source, seeds are drawn, the picture's format is known, the files
  /// that are read exist.
  ///
  /// Errors   Error(usage) as the contract says; Error(not_found), Error(io) for the files
  void settle();

  /// The prompt of the next picture or batch. Standard input is read once, a file every time.
  ///
  /// Errors   Error(usage) when input or file hold nothing but blanks; as io::read_text
  std::string read_prompt(std::istream& in);

 private:
  void settle_seeds();
};

void add_generate_options(CLI::App& command, GenerateOptions& options);

/// `count` different seeds below 2^32, of which PyTorch's generator uses every bit.
std::vector<std::uint64_t> draw_seeds(int count);

}  // namespace klein::cli
