#include "klein/cli/output_files.h"

#include <string>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kSeed = "{seed}";

fs::path with_suffix(const fs::path& path, const std::string& suffix) {
  fs::path name = path.stem();
  name += suffix;
  name += path.extension();
  return path.parent_path() / name;
}

bool is_taken(const fs::path& path) {
  std::error_code ignored;  // what cannot be asked about fails when it is written
  return fs::exists(fs::symlink_status(path, ignored));
}

/// Opens the hidden file that the real one will grow in, and drops it again.
void expect_writable(const fs::path& path, io::Overwrite overwrite) {
  const io::AtomicFile probe(path, overwrite);
  std::error_code error;
  const auto status = fs::symlink_status(path, error);  // a name can be too long, too
  if (error && status.type() != fs::file_type::not_found)
    throw Error(ErrorKind::io,
                fmt::format("cannot name the file ({}): {}", error.message(), path.string()));
}

}  // namespace

fs::path name_for_seed(const fs::path& path, std::uint64_t seed, bool is_one_of_several) {
  std::string name = path.string();
  const auto number = std::to_string(seed);
  auto at = name.find(kSeed);
  if (at == std::string::npos)
    return is_one_of_several ? with_suffix(path, "_seed_" + number) : path;
  for (; at != std::string::npos; at = name.find(kSeed, at + number.size()))
    name.replace(at, kSeed.size(), number);
  return name;
}

fs::path name_in_batch(const fs::path& path, std::size_t index, std::size_t count) {
  return count == 1 ? path : with_suffix(path, fmt::format("_{}", index + 1));
}

OutputFiles::OutputFiles(const GenerateOptions& options)
    : output_(options.output),
      latents_(options.save_latents),
      prompt_embeds_(options.save_prompt_embeds),
      is_one_of_several_(options.seeds.size() > 1),
      overwrite_(options.overwrite) {
  std::set<fs::path> tensors;
  for (const auto seed : options.seeds)
    for (const auto* path : {&latents_, &prompt_embeds_}) {
      if (!*path) continue;
      const auto name = named(**path, seed);
      if (!overwrite_ && is_taken(name))
        throw Error(ErrorKind::usage,
                    fmt::format("expected a new file, but one exists already: {}", name.string()),
                    "Choose another name, or give --overwrite.");
      if (!tensors.insert(name.lexically_normal()).second)
        throw Error(
            ErrorKind::usage,
            fmt::format("expected a file for each picture and kind of tensor, but two would "
                        "be written to one: {}",
                        name.string()),
            "Choose another name, and give every seed once.");
    }

  const auto tensor_mode = overwrite_ ? io::Overwrite::replace : io::Overwrite::refuse;
  const auto first_seed = options.seeds.front();
  if (latents_) expect_writable(named(*latents_, first_seed), tensor_mode);
  if (prompt_embeds_) expect_writable(named(*prompt_embeds_, first_seed), tensor_mode);
  expect_writable(named(output_, first_seed),
                  overwrite_ ? io::Overwrite::replace : io::Overwrite::number);
}

fs::path OutputFiles::named(const fs::path& path, std::uint64_t seed) const {
  return name_for_seed(path, seed, is_one_of_several_);
}

void OutputFiles::fill(GenerateRequest& request, const std::vector<std::uint64_t>& seeds) const {
  request.save_latents.clear();
  request.save_prompt_embeds.clear();
  for (const auto seed : seeds) {
    if (latents_) request.save_latents.push_back(named(*latents_, seed));
    if (prompt_embeds_) request.save_prompt_embeds.push_back(named(*prompt_embeds_, seed));
  }
}

OutputFiles::Saved OutputFiles::save(const io::Image& image, std::uint64_t seed, std::size_t index,
                                     std::size_t count) {
  const auto wanted = name_in_batch(named(output_, seed), index, count);
  const auto bytes = io::encode(image, io::format_for(wanted));
  const bool replace = overwrite_ && !written_.contains(wanted);
  auto path =
      io::write_atomically(wanted, bytes, replace ? io::Overwrite::replace : io::Overwrite::number);
  if (replace) path = wanted;  // as the person named it, not the canonical name
  written_.insert(wanted);
  written_.insert(path);
  const bool is_renamed = !replace && path != wanted;
  return {.wanted = wanted, .path = std::move(path), .is_renamed = is_renamed};
}

}  // namespace klein::cli
