#include "klein/cli/child_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "klein/core/error.h"

extern char** environ;

namespace klein::cli {
namespace {

constexpr std::size_t kMaxLine = std::size_t{1} << 20;
constexpr int kPollMillisecs = 200;

std::string describe_errno(int number) {
  return std::generic_category().message(number);
}

/// Both ends, which no other program inherits.
std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0)
    throw Error(ErrorKind::io, fmt::format("cannot make a pipe ({})", describe_errno(errno)));
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
  return ends;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments,
                           const std::filesystem::path& log) {
  const auto down = make_pipe();
  const auto up = make_pipe();
  std::vector<char*> words;
  for (const auto& word : arguments) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, down[0], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, up[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t id = -1;
  const int failure = ::posix_spawnp(&id, words.front(), &actions, nullptr, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(down[0]);
  ::close(up[1]);
  to_ = down[1];
  from_ = up[0];
  if (failure == 0) {
    id_ = id;
    return;
  }
  close_all();
  throw Error(ErrorKind::not_found, fmt::format("cannot start the program ({}): {}",
                                                describe_errno(failure), arguments.front()));
}

ChildProcess::~ChildProcess() {
  close_all();
  if (id_ < 0) return;
  ::kill(id_, SIGKILL);  // it holds nothing that would have to be saved
  while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void ChildProcess::close_all() {
  for (int* end : {&to_, &from_})
    if (*end >= 0) ::close(std::exchange(*end, -1));
}

void ChildProcess::send(const std::string& line) {
  const auto text = line + '\n';
  for (std::size_t sent = 0; sent < text.size();) {
    const auto count = ::write(to_, text.data() + sent, text.size() - sent);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      throw Error(ErrorKind::io,
                  fmt::format("cannot write to another program ({})", describe_errno(errno)));
    sent += static_cast<std::size_t>(count);
  }
}

std::optional<std::string> ChildProcess::receive(const std::function<bool()>& stop_requested) {
  for (;;) {
    if (const auto end = unread_.find('\n'); end != std::string::npos) {
      auto line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    if (unread_.size() > kMaxLine)
      throw Error(ErrorKind::format, "expected lines of at most 1 MB from another program");
    if (stop_requested()) throw Error(ErrorKind::cancelled, "stopped on request");
    struct pollfd ready {
      .fd = from_, .events = POLLIN, .revents = 0
    };
    if (::poll(&ready, 1, kPollMillisecs) <= 0) continue;
    std::array<char, 4096> buffer{};
    const auto count = ::read(from_, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      if (stop_requested()) throw Error(ErrorKind::cancelled, "stopped on request");
      return std::nullopt;
    }
    unread_.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace klein::cli
