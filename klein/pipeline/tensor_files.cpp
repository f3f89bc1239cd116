#include "klein/pipeline/tensor_files.h"

#include <cmath>
#include <cstring>
#include <span>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/safetensors.h"
#include "klein/tensor/check.h"

namespace klein {

mx::array all_finite(const mx::array& a) {
  return mx::all(mx::isfinite(mx::astype(a, mx::float32)));
}

mx::array read_tensor(const std::filesystem::path& path, const std::string& name) {
  const auto file = io::SafetensorsFile::open(path);
  const auto* tensor = file.find(name);
  if (tensor == nullptr)
    throw Error(ErrorKind::not_found,
                fmt::format("expected a tensor `{}`, found none: {}", name, path.string()));
  mx::Shape shape;
  for (const auto extent : tensor->shape) shape.push_back(static_cast<int>(extent));
  const auto bytes = file.bytes(*tensor);
  const auto read = [&](auto element, mx::Dtype dtype) {
    std::vector<decltype(element)> values(bytes.size() / sizeof(element));
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return mx::array(values.begin(), shape, dtype);
  };
  auto value = [&] {
    switch (tensor->dtype) {
      case io::Dtype::float32:
        return read(0.0f, mx::float32);
      case io::Dtype::float16:
        return read(mx::float16_t{}, mx::float16);
      case io::Dtype::bfloat16:
        return read(mx::bfloat16_t{}, mx::bfloat16);
      default:
        throw Error(ErrorKind::unsupported,
                    fmt::format("expected `{}` to be F32, F16 or BF16, got {}: {}", name,
                                io::dtype_name(tensor->dtype), path.string()));
    }
  }();
  if (!all_finite(value).item<bool>())
    throw Error(ErrorKind::format,
                fmt::format("expected finite values in `{}`, got NaN or infinity: {}", name,
                            path.string()));
  return value;
}

void write_tensor(const std::filesystem::path& path, const std::string& name,
                  const mx::array& value, bool overwrite) {
  auto whole = mx::contiguous(value);
  mx::eval(whole);
  mx::synchronize();
  const auto dtype = whole.dtype() == mx::bfloat16 ? io::Dtype::bfloat16 : io::Dtype::float32;
  if (whole.dtype() != mx::bfloat16 && whole.dtype() != mx::float32)
    throw Error(ErrorKind::internal, "cannot write " + describe(whole));
  io::write_safetensors(
      path,
      {{.name = name,
        .dtype = dtype,
        .shape = {whole.shape().begin(), whole.shape().end()},
        .data = {reinterpret_cast<const std::byte*>(whole.data<char>()), whole.nbytes()}}},
      {}, overwrite ? io::Overwrite::replace : io::Overwrite::refuse);
}

void write_rows(const std::vector<std::filesystem::path>& paths, const std::string& name,
                const mx::array& value, bool overwrite) {
  if (paths.size() == 1) return write_tensor(paths.front(), name, value, overwrite);
  const auto rows = static_cast<std::size_t>(value.shape(0));
  if (rows != 1 && rows < paths.size())
    throw Error(ErrorKind::shape, fmt::format("expected {} for {} files, got {}", name,
                                              paths.size(), describe(value)));
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const auto row = value.shape(0) == 1 ? 0 : static_cast<int>(i);
    write_tensor(paths[i], name, mx::take(value, mx::array({row}), 0), overwrite);
  }
}

void expect_finite(bool finite) {
  if (!finite)
    throw Error(ErrorKind::internal, "expected finite latents, but the model made NaN or infinity",
                "Try --dtype float32; if that fails too, the weights are damaged.");
}

}  // namespace klein
