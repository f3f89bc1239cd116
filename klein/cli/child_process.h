#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace klein::cli {

/// Another program that is sent lines and answers in lines. It belongs to the same process group,
/// so that Ctrl-C ends both.
class ChildProcess {
 public:
  /// `arguments` begins with the program, looked for in PATH; its messages go to the file `log`.
  ///
  /// Errors   Error(not_found) when it cannot be started; Error(io)
  ChildProcess(const std::vector<std::string>& arguments, const std::filesystem::path& log);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Ends the program, if it still runs.
  ~ChildProcess();

  /// Errors   Error(io) when the program has ended
  void send(const std::string& line);

  /// The next line, or nothing when the program has ended or closed its output.
  ///
  /// Errors   Error(cancelled) when `stop_requested` says so; Error(format) for a line above 1 MB
  std::optional<std::string> receive(const std::function<bool()>& stop_requested);

 private:
  void close_all();

  int id_ = -1;  ///< Of the process.
  int to_ = -1, from_ = -1;
  std::string unread_;
};

}  // namespace klein::cli
