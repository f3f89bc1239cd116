#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <vector>

#include "klein/cli/generate_options.h"
#include "klein/io/file.h"
#include "klein/io/image.h"

namespace klein::cli {

/// `path` with every `{seed}` replaced; where there is none and several pictures come, `_seed_N` is
/// put before the extension, as mflux does.
std::filesystem::path name_for_seed(const std::filesystem::path& path, std::uint64_t seed,
                                    bool is_one_of_several);

/// The name of picture `index` (from 0) of `count` of one seed: out.png, or out_1.png, out_2.png.
std::filesystem::path name_in_batch(const std::filesystem::path& path, std::size_t index,
                                    std::size_t count);

/// The files that one run writes.
class OutputFiles {
 public:
  /// Finds out before any work whether the files can be written; makes the folder of the picture
  /// when it is missing, and leaves no file behind.
  ///
  /// Errors   Error(usage) when a file of --save-latents or --save-prompt-embeds exists and may not
  ///          be replaced, and when two pictures or both flags would write the same one; Error(io)
  ///          when the system refuses
  explicit OutputFiles(const GenerateOptions& options);

  /// Sets the files that the request of these seeds keeps.
  void fill(GenerateRequest& request, const std::vector<std::uint64_t>& seeds) const;

  struct Saved {
    std::filesystem::path wanted;
    std::filesystem::path path;
    bool is_renamed = false;  ///< The wanted name was taken.
  };

  /// Writes one of `count` pictures of a seed. Errors as io::encode and io::write_atomically.
  Saved save(const io::Image& image, std::uint64_t seed, std::size_t index, std::size_t count);

 private:
  std::filesystem::path named(const std::filesystem::path& path, std::uint64_t seed) const;

  std::filesystem::path output_;
  std::optional<std::filesystem::path> latents_, prompt_embeds_;
  bool is_one_of_several_;
  bool overwrite_;
  std::set<std::filesystem::path> written_;  ///< By this run: never replaced by it.
};

}  // namespace klein::cli
