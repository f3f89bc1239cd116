#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::weights {

/// A tensor to be written; computed when its turn comes.
struct PendingTensor {
  std::string name;
  mx::array value;
  bool is_fp8 = false;  ///< Bytes that are numbers of E4M3.
};

/// Names for a folder's shards and its index.
struct ShardNames {
  std::string index;          ///< Of the index; empty: none is written.
  bool index_always = false;  ///< Also where one shard holds everything.
  std::function<std::string(int shard, int count)> shard;
  std::uint64_t max_bytes = std::uint64_t{2} << 30;
};

/// Writes tensors to shards, filled in order up to max_bytes, with an index that names the shard of
/// each; computes one tensor at a time and calls `written` after it with the number of tensors
/// done. Returns the files.
std::vector<std::filesystem::path> write_shards(const std::filesystem::path& folder,
                                                std::vector<PendingTensor> tensors,
                                                const ShardNames& names,
                                                const std::map<std::string, std::string>& metadata,
                                                const std::function<void(int done)>& written);

}  // namespace klein::weights
