// The program `klein`. The only place that turns an error into text and an exit code.

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "klein/cli/context.h"
#include "klein/cli/error_report.h"
#include "klein/cli/interrupt.h"
#include "klein/cli/program.h"
#include "klein/core/error.h"

namespace klein::cli {
namespace {

/// A program that was started without a standard stream must not open a picture in its place, where
/// messages would be written into it. Writing to the stand-in fails.
void fill_missing_streams() {
  for (int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(descriptor, F_GETFD) < 0) (void)!::open("/dev/null", O_RDONLY);
}

/// Lets waiting OpenMP threads go to sleep soon, unless the user has chosen otherwise.
///
/// By default they spin for milliseconds, which takes the processor away from whatever else runs:
/// on two busy cores a small picture took up to 14 s, with this 2 to 3 s, and alone 0.6 s.
/// The runtime reads its setting before main, so the program has to start itself once more; where
/// that fails, it goes on as it is.
void start_with_patient_threads([[maybe_unused]] char** argv) {
#ifdef __linux__
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error || ::setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
  ::execv(program.c_str(), argv);
#endif
}

int columns_of_stderr() {
  const char* terminal = std::getenv("TERM");
  if (!::isatty(STDERR_FILENO) || (terminal != nullptr && std::string(terminal) == "dumb"))
    return 0;
  struct winsize size {};
  const bool is_known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? size.ws_col : 80;
}

Model load_model(const EngineOptions& options, const ProgressCallback& progress) {
  expect_polling();
  auto engine = std::make_shared<Engine>(options, progress);
  return {.info = engine->info(),
          .generate = [engine](const auto& request,
                               const auto& hear) { return engine->generate(request, hear); },
          .bench = [engine](const auto& request,
                            const auto& hear) { return engine->bench(request, hear); },
          .save = [engine](const auto& request,
                           const auto& hear) { return engine->save(request, hear); }};
}

int fail(const Error& error) {
  std::cerr << describe(error) << std::flush;
  return exit_code(error.kind());
}

int run(const std::vector<std::string>& arguments) {
  Context context{.in = std::cin,
                  .out = std::cout,
                  .err = std::cerr,
                  .terminal_columns = columns_of_stderr,
                  .stop_requested = stop_requested,
                  .load_model = load_model};
  try {
    run_program(arguments, context);
    if (!std::cout.flush()) throw Error(ErrorKind::io, "cannot write to standard output");
    return EXIT_SUCCESS;
  } catch (const Error& error) {
    return fail(error);
  } catch (const std::bad_alloc&) {
    return fail({ErrorKind::memory, "not enough memory"});
  } catch (const std::exception& error) {
    return fail({ErrorKind::internal, error.what()});
  }
}

}  // namespace
}  // namespace klein::cli

int main(int argc, char** argv) {
  klein::cli::start_with_patient_threads(argv);
  std::ios::sync_with_stdio(false);
  klein::cli::fill_missing_streams();
  klein::cli::install_signal_handlers();
  return klein::cli::run({argv + 1, argv + argc});
}
