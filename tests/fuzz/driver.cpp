// libFuzzer's door to one target: KLEIN_FUZZ_TARGET is the name of the function.

#include <cstddef>
#include <cstdint>

#include <sanitizer/asan_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/targets.h"

namespace {

std::size_t to_whole_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

// A mapped file is followed by zeros up to the end of its page: nobody may look at them. The linker
// leads the calls of the project's own code here (--wrap).
extern "C" {
void* __real_mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void* address, std::size_t size);

void* __wrap_mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) {
  void* address = __real_mmap(at, size, protection, flags, file, offset);
  if (address != MAP_FAILED)
    ASAN_POISON_MEMORY_REGION(static_cast<char*>(address) + size, to_whole_pages(size) - size);
  return address;
}

int __wrap_munmap(void* address, std::size_t size) {
  ASAN_UNPOISON_MEMORY_REGION(address, to_whole_pages(size));
  return __real_munmap(address, size);
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
}

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr klein::fuzz::Target target{"", klein::fuzz::KLEIN_FUZZ_TARGET};
  klein::fuzz::run(target, {reinterpret_cast<const char*>(data), size});
  return 0;
}
