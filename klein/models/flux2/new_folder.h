#pragma once

#include <filesystem>
#include <vector>

namespace klein::flux2 {

/// A folder that takes its name only when it is complete; until then it is a hidden one beside it.
///
/// Errors   Error(usage) when something is there already that is no empty folder; Error(io) when
///          the system refuses
class NewFolder {
 public:
  explicit NewFolder(const std::filesystem::path& path);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  /// Removes what was not committed, and the folders above it that were made for it.
  ~NewFolder();

  /// Where to write meanwhile.
  const std::filesystem::path& path() const noexcept { return inner_; }
  const std::filesystem::path& final_path() const noexcept { return final_; }

  void commit();

 private:
  [[noreturn]] void fail(const char* act, int error_number) const;
  void make_parents();
  void make_hidden();
  void clean_up() noexcept;

  std::filesystem::path final_, outer_, inner_;
  std::vector<std::filesystem::path> made_;  ///< Above it, the highest first.
};

}  // namespace klein::flux2
