#include "klein/cli/interrupt.h"

#include <atomic>
#include <csignal>

#include <unistd.h>

namespace klein::cli {
namespace {

constexpr int kInterrupted = 130;

// A signal handler has no other way to be heard.
std::atomic<bool> stop{false};
std::atomic<bool> is_polled{false};
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void on_signal(int) {
  if (is_polled && !stop.exchange(true)) return;
  constexpr char message[] = "\nklein: error: stopped on request\n";
  (void)!::write(STDERR_FILENO, message, sizeof message - 1);
  ::_exit(kInterrupted);
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);  // a failed write is an error with a message
  std::signal(SIGXFSZ, SIG_IGN);  // so is a file over the limit of the shell
}

void expect_polling() {
  is_polled = true;
}

bool stop_requested() {
  return stop;
}

}  // namespace klein::cli
