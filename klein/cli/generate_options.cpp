#include "klein/cli/generate_options.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <random>
#include <set>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/cli/flags.h"
#include "klein/core/error.h"
#include "klein/io/file.h"
#include "klein/io/image.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr int kMaxAutoSeeds = 100'000;
constexpr std::uint64_t kMaxPromptBytes = std::uint64_t{16} << 20;

using Words = std::vector<std::string>;

/// A flag takes every word up to the next flag, so `--seed 1 2 "a cat"` hands it the prompt too:
/// a last word that is no number is taken for the PROMPT where that is still missing.
void take_prompt_from(Words& words, GenerateOptions& options) {
  if (words.size() < 2 || is_number(words.back()) || options.prompt_argument) return;
  options.prompt_argument = unguarded(words.back());
  words.pop_back();
}

void add_numbers(CLI::App& command, const std::string& flag, const std::string& help,
                 GenerateOptions& options, std::function<void(const Words&)> set) {
  command
      .add_option_function<Words>(
          flag,
          [&options, set = std::move(set)](Words words) {
            take_prompt_from(words, options);
            set(words);
          },
          help)
      ->type_name(value::kNumber);
}

void add_prompt_flags(CLI::App& command, GenerateOptions& o) {
  command
      .add_option_function<std::string>(
          "PROMPT", [&o](const std::string& text) { o.prompt_argument = unguarded(text); },
          "What to paint")
      ->type_name("");
  command
      .add_option_function<std::string>(
          "--prompt", [&o](const std::string& text) { o.prompt_flag = unguarded(text); },
          "What to paint; - reads it from standard input")
      ->type_name(value::kText);
  add_file(command, "--prompt-file", o.prompt_file,
           "File with the prompt, read again before every picture or batch");
  add_value(command, "--negative-prompt", value::kText, "What to avoid (base models)",
            [&o](const std::string& text) { o.request.negative_prompt = text; });
}

void add_sampling_flags(CLI::App& command, GenerateOptions& o) {
  add_size_flags(command, o.request, &o.width_scale, &o.height_scale);
  add_value(
      command, "--guidance", value::kNumber,
      "Strength of the prompt (base models) [the model's own]",
      [&o](const std::string& text) { o.request.guidance = parse_double(text, "--guidance"); });
  add_numbers(command, "--seed", "One picture for each; a seed repeats a picture [random]", o,
              [&o](const Words& words) {
                for (const auto& word : words) o.seeds.push_back(parse_seed(word));
              });
  add_int(command, "--auto-seeds", o.auto_seeds, "Make this many pictures with random seeds");
  add_int(command, "--batch", o.batch, "Paint up to so many seeds at once [1]");
  add_choice(command, "--rng", {"torch", "mlx"}, "Whose random numbers a seed means [torch]",
             [&o](std::size_t i) { o.request.rng = i == 0 ? Rng::torch : Rng::mlx; });
  add_numbers(command, "--sigmas", "Noise levels instead of evenly spaced ones", o,
              [&o](const Words& words) {
                for (const auto& word : words)
                  o.request.sigmas.push_back(static_cast<float>(parse_double(word, "a sigma")));
              });
  add_choice(command, "--vae-tiling", {"auto", "off", "exact", "diffusers"},
             "Decode in parts: exact spares memory, diffusers is its tiling [auto: if need be]",
             [&o](std::size_t i) {
               constexpr std::array kinds = {VaeTiling::automatic, VaeTiling::off, VaeTiling::exact,
                                             VaeTiling::diffusers};
               o.request.vae_tiling = kinds.at(i);
             });
}

}  // namespace

void add_generate_options(CLI::App& command, GenerateOptions& o) {
  add_prompt_flags(command, o);
  add_engine_flags(command, o.engine);
  o.loras.take_prompt = [&o](const std::string& word) {
    if (o.prompt_argument) return false;
    o.prompt_argument = word;
    return true;
  };
  o.pictures.take_prompt = o.loras.take_prompt;
  add_lora_flags(command, o.loras);
  add_merge_flag(command, o.loras);
  add_sampling_flags(command, o);
  add_value(command, "--output", value::kFile,
            "Picture to write, .png, .jpg or .webp; {seed} is replaced [image.png]",
            [&o](const std::string& text) { o.output = text; });
  command.add_flag("--overwrite", o.overwrite, "Replace files that exist");
  add_file(command, "--latents", o.request.latents,
           "Starting noise: tensor latents [B,C,H/16,W/16]");
  add_file(command, "--save-latents", o.save_latents, "Keep the final latents [B,L,C]");
  add_file(command, "--prompt-embeds", o.request.prompt_embeds,
           "Tensor prompt_embeds [B,tokens,features] instead of a prompt");
  add_file(command, "--save-prompt-embeds", o.save_prompt_embeds, "Keep the prompt's embeddings");
  add_file(command, "--stepwise-image-output-dir", o.stepwise_folder,
           "Folder for what the picture would be after every step, and a sheet of them");
  add_choice(command, "--stepwise-decode", {"vae", "latents"},
             "Whole pictures by the autoencoder, or small ones at nearly no cost [vae]",
             [&o](std::size_t i) {
               o.request.preview_kind = i == 0 ? PreviewKind::decoded : PreviewKind::latents;
             });
  o.request.preview_kind = PreviewKind::decoded;
  command.add_flag("--quiet", o.quiet, "No progress");
  command.add_flag("--json", o.json, "One JSON object on standard output at the end");
}

void GenerateOptions::settle() {
  Words sources;
  if (prompt_argument) sources.emplace_back("PROMPT");
  if (prompt_flag) sources.emplace_back("--prompt");
  if (prompt_file) sources.emplace_back("--prompt-file");
  if (sources.size() > 1)
    throw Error(ErrorKind::usage,
                fmt::format("expected one prompt, got {}", fmt::join(sources, " and ")));
  if (sources.empty() && !request.prompt_embeds)
    throw Error(ErrorKind::usage, "expected a prompt, got none",
                "Say what to paint: klein generate \"a red apple\".");
  if (!sources.empty() && request.prompt_embeds)
    warnings.push_back(fmt::format("{} has no effect beside --prompt-embeds", sources.front()));

  loras.settle(engine, request, warnings);
  settle_seeds();
  request.overwrite = overwrite;
  pictures.fill(request);
  if (width_scale) request.width = scaled_side(*width_scale, true, request);
  if (height_scale) request.height = scaled_side(*height_scale, false, request);
  request.validate();
  (void)io::format_for(output);
  for (const auto& file : {request.latents, request.prompt_embeds})
    if (file) (void)io::MappedFile::open(*file);
}

void GenerateOptions::settle_seeds() {
  if (auto_seeds && (*auto_seeds < 1 || *auto_seeds > kMaxAutoSeeds))
    throw Error(ErrorKind::usage, fmt::format("expected --auto-seeds to be 1 to {}, got {}",
                                              kMaxAutoSeeds, *auto_seeds));
  if (auto_seeds && !seeds.empty())
    warnings.emplace_back("--auto-seeds has no effect beside --seed");
  if (batch && (*batch < 1 || *batch > kMostPicturesAtOnce))
    throw Error(ErrorKind::usage,
                fmt::format("expected --batch to be 1 to {}, got {}", kMostPicturesAtOnce, *batch));
  if (batch && request.latents)
    throw Error(ErrorKind::usage, "expected --batch or --latents, got both",
                "A file of latents holds its own batch.");
  if (request.latents && (auto_seeds || !seeds.empty()))
    warnings.emplace_back("seeds have no effect on the picture beside --latents");
  if (seeds.empty()) seeds = draw_seeds(auto_seeds.value_or(1));
  if (batch && *batch > 1 && seeds.size() == 1)
    warnings.emplace_back("--batch has no effect on a single seed");
}

std::string GenerateOptions::read_prompt(std::istream& in) {
  if (prompt_file) {
    auto text = stripped(io::read_text(*prompt_file, kMaxPromptBytes));
    if (text.empty())
      throw Error(ErrorKind::usage, fmt::format("expected a prompt in the file, got none: {}",
                                                prompt_file->string()));
    return text;
  }
  if (prompt_flag == "-") {
    auto text = stripped(std::string(std::istreambuf_iterator<char>(in), {}));
    if (text.empty())
      throw Error(ErrorKind::usage, "expected a prompt on standard input, got none");
    prompt_flag.reset();
    prompt_argument = std::move(text);
  }
  return prompt_argument.value_or(prompt_flag.value_or(""));
}

std::vector<std::uint64_t> draw_seeds(int count) {
  std::random_device random;
  std::vector<std::uint64_t> seeds;
  std::set<std::uint64_t> drawn;
  while (static_cast<int>(seeds.size()) < count)
    if (const std::uint64_t seed = random(); drawn.insert(seed).second) seeds.push_back(seed);
  return seeds;
}

}  // namespace klein::cli
