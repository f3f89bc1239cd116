#include "klein/ops/host_memory.h"

#include <cstring>
#include <new>

#include "klein/ops/cuda/upload.h"

namespace klein::ops {

std::vector<std::uint8_t> bytes_of(const mx::array& a) {
  auto in_rows = mx::contiguous(a);
  mx::async_eval(in_rows);
  std::vector<std::uint8_t> bytes(in_rows.nbytes());  // its pages, while a GPU is at work
  in_rows.wait();
  if (cuda::uploads())
    cuda::download(in_rows, std::as_writable_bytes(std::span(bytes)));
  else if (!bytes.empty())
    std::memcpy(bytes.data(), in_rows.data<char>(), bytes.size());
  return bytes;
}

mx::array array_from(std::span<const std::byte> bytes, const mx::Shape& shape, mx::Dtype dtype) {
  if (bytes.empty()) return mx::zeros(shape, dtype);
  if (cuda::uploads()) return cuda::upload_at_once(bytes, shape, dtype);
  auto memory = mx::allocator::malloc(bytes.size());
  if (memory.buffer().ptr() == nullptr) throw std::bad_alloc();  // MLX hands the null on
  std::memcpy(memory.buffer().raw_ptr(), bytes.data(), bytes.size());
  return mx::array(std::move(memory), shape, dtype);
}

}  // namespace klein::ops
