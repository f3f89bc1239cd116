#include "klein/tensor/memory.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>

namespace klein {
namespace {

namespace fs = std::filesystem;

/// A folder that looks like the root of a Linux system.
class FakeRoot {
 public:
  FakeRoot() : root_(fs::temp_directory_path() / fs::path("klein-memory-test")) {
    fs::remove_all(root_);
    write("proc/meminfo", "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable:    5000 kB\n");
  }
  ~FakeRoot() { fs::remove_all(root_); }

  void write(const fs::path& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::optional<std::uint64_t> available() const { return linux_available_bytes(root_); }

 private:
  fs::path root_;
};

TEST_SUITE("tensor/memory") {
  TEST_CASE("what is available is what the kernel says") {
    CHECK(FakeRoot().available() == 5000 * 1024);
  }

  TEST_CASE("a system that says nothing has no number") {
    CHECK_FALSE(linux_available_bytes("/nowhere").has_value());
  }

  TEST_CASE("a control group of version 2 that leaves less counts, its cached files aside") {
    const FakeRoot root;
    root.write("proc/self/cgroup", "0::/user/one\n");
    root.write("sys/fs/cgroup/user/one/memory.max", "max\n");
    root.write("sys/fs/cgroup/user/one/memory.current", "900000\n");
    root.write("sys/fs/cgroup/user/memory.max", "3000000\n");
    root.write("sys/fs/cgroup/user/memory.current", "1000000\n");
    root.write("sys/fs/cgroup/user/memory.stat",
               "anon 600000\nactive_file 300000\ninactive_file 100000\n");
    CHECK(root.available() == 3000000 - (1000000 - 400000));
  }

  TEST_CASE("a control group of version 1 that leaves less counts") {
    const FakeRoot root;
    root.write("proc/self/cgroup", "5:cpu:/\n4:memory:/box\n0::/\n");
    root.write("sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2000000\n");
    root.write("sys/fs/cgroup/memory/box/memory.usage_in_bytes", "1500000\n");
    root.write("sys/fs/cgroup/memory/box/memory.stat", "total_active_file 100000\n");
    CHECK(root.available() == 600000);
  }

  TEST_CASE("a group that is full leaves nothing, and one without a limit changes nothing") {
    const FakeRoot root;
    root.write("proc/self/cgroup", "0::/full\n");
    root.write("sys/fs/cgroup/full/memory.max", "1000\n");
    root.write("sys/fs/cgroup/full/memory.current", "2000\n");
    CHECK(root.available() == 0);
    root.write("sys/fs/cgroup/full/memory.max", "max\n");
    CHECK(root.available() == 5000 * 1024);
  }

  TEST_CASE("this process used something, and may use more") {
    CHECK(peak_memory_bytes() > 1'000'000);
    CHECK(usable_memory_bytes() > 10'000'000);
  }
}

}  // namespace
}  // namespace klein
