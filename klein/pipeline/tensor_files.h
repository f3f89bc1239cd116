#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "klein/tensor/mlx.h"

namespace klein {

/// The tensor `name` of a safetensors file, in memory.
///
/// Dtype    as in the file: float32, float16 or bfloat16
/// Errors   Error(not_found) when file or tensor is missing; Error(format) for a broken file, and
///          when a value is not finite; Error(unsupported) for a tensor of another type
mx::array read_tensor(const std::filesystem::path& path, const std::string& name);

/// Writes one tensor as a safetensors file, whole or not at all.
///
/// Errors   Error(io) when the file exists and may not be overwritten, or cannot be written
void write_tensor(const std::filesystem::path& path, const std::string& name,
                  const mx::array& value, bool overwrite);

/// The whole of `value` into one file, or a row of its first axis into each of several; a value of
/// one row goes into all of them. Errors as write_tensor.
void write_rows(const std::vector<std::filesystem::path>& paths, const std::string& name,
                const mx::array& value, bool overwrite);

/// Whether no value is infinite or NaN: a bool [], not computed yet.
mx::array all_finite(const mx::array& a);

/// Throws Error(internal) unless the model's result is `finite`.
void expect_finite(bool finite);

}  // namespace klein
