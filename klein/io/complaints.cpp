#include "klein/io/complaints.h"

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::io {

void Complaints::throw_if_any(const std::string& what, const std::filesystem::path& path,
                              const std::string& hint) const {
  if (empty()) return;
  std::string list = fmt::format("{}", fmt::join(listed_, "; "));
  if (count_ > listed_.size()) list += fmt::format("; and {} more", count_ - listed_.size());
  throw Error(ErrorKind::format, fmt::format("expected {}, got {}: {}", what, list, path.string()),
              hint);
}

}  // namespace klein::io
