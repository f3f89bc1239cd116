#pragma once

namespace klein::cli {

/// From here on Ctrl-C, SIGTERM and a closed pipe have this program's meaning.
///
/// The first signal ends the program at once with status 130 while it parses or waits for input.
/// Once a model works it only asks the work to stop, and a second one ends the program.
void install_signal_handlers();

/// Says that from here on somebody asks stop_requested() again and again.
void expect_polling();

bool stop_requested();

}  // namespace klein::cli
