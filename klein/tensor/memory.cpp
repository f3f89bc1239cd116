#include "klein/tensor/memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>

#include <sys/resource.h>
#include <unistd.h>

namespace klein {
namespace {

namespace fs = std::filesystem;

/// What stands behind `key` in a file of lines "key value ..."; without a key the file's first
/// word. "max", version 2's word for no limit, is no number.
std::optional<std::uint64_t> number_in(const fs::path& file, std::string_view key = {}) {
  std::ifstream lines(file);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name, value;
    if (!key.empty() && (!(words >> name) || name != key)) continue;
    std::uint64_t number = 0;
    if (words >> value &&
        std::from_chars(value.data(), value.data() + value.size(), number).ec == std::errc())
      return number;
    return std::nullopt;
  }
  return std::nullopt;
}

/// How the files of a control group are called.
struct Names {
  const char *limit, *used, *active, *inactive;
};
constexpr Names kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file",
                             "total_inactive_file"};
constexpr Names kVersion2 = {"memory.max", "memory.current", "active_file", "inactive_file"};

/// The least that a group and those around it leave; pages of files go when they are in the way.
std::optional<std::uint64_t> group_available(const fs::path& mount, fs::path group,
                                             const Names& names) {
  std::optional<std::uint64_t> least;
  for (;; group = group.parent_path()) {
    const auto folder = mount / group;
    const auto limit = number_in(folder / names.limit), used = number_in(folder / names.used);
    if (limit && used) {
      const auto stat = folder / "memory.stat";
      const auto cached =
          number_in(stat, names.active).value_or(0) + number_in(stat, names.inactive).value_or(0);
      const auto held = *used > cached ? *used - cached : 0;
      const auto left = *limit > held ? *limit - held : 0;
      least = std::min(least.value_or(left), left);
    }
    if (group.empty()) return least;
  }
}

/// What this process holds.
struct ProcessBytes {
  std::uint64_t addresses = 0;  ///< Used or not, mapped files included.
  std::uint64_t own = 0;        ///< In memory, and no file's.
};

ProcessBytes process_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0, shared = 0;
  file >> all >> resident >> shared;
  const auto page = static_cast<std::uint64_t>(::getpagesize());
  return {.addresses = all * page, .own = (resident - std::min(shared, resident)) * page};
}

/// What `ulimit -v` leaves.
std::optional<std::uint64_t> addresses_left(std::uint64_t used) {
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

std::uint64_t gpu_bytes() {
  std::uint64_t bytes = mx::get_memory_limit();
  const auto& info = mx::device_info(mx::Device::gpu);
  for (const char* key : {"max_recommended_working_set_size", "total_memory", "memory_size"})
    if (const auto found = info.find(key); found != info.end())
      if (const auto* size = std::get_if<std::size_t>(&found->second))
        return std::min<std::uint64_t>(bytes, *size);
  return bytes;
}

}  // namespace

std::uint64_t peak_memory_bytes() {
  if (mx::default_device() == mx::Device::gpu) return mx::get_peak_memory();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  constexpr std::uint64_t unit = 1;
#else
  constexpr std::uint64_t unit = 1024;
#endif
  return static_cast<std::uint64_t>(usage.ru_maxrss) * unit;
}

std::uint64_t usable_memory_bytes() {
  if (mx::default_device() == mx::Device::gpu) return gpu_bytes();
  if (auto free = linux_available_bytes()) {
    const auto process = process_bytes();
    if (const auto left = addresses_left(process.addresses)) free = std::min(*free, *left);
    return *free + process.own;
  }
  return static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::optional<std::uint64_t> linux_available_bytes(const fs::path& root) {
  auto kilobytes = number_in(root / "proc/meminfo", "MemAvailable:");
  if (!kilobytes) return std::nullopt;
  auto least = *kilobytes * 1024;

  std::ifstream groups(root / "proc/self/cgroup");  // "4:memory:/a/b", or "0::/a/b" in version 2
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const auto group = fs::path(line.substr(second + 1)).relative_path();
    std::optional<std::uint64_t> left;
    if (controllers == ",,")
      left = group_available(root / "sys/fs/cgroup", group, kVersion2);
    else if (controllers.find(",memory,") != std::string::npos)
      left = group_available(root / "sys/fs/cgroup/memory", group, kVersion1);
    if (left) least = std::min(least, *left);
  }
  return least;
}

}  // namespace klein
