#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>

#include "klein/core/progress.h"
#include "klein/core/stopwatch.h"

namespace klein::cli {

/// "512 B", "11.4 MB", "15.98 GB".
std::string describe_bytes(double bytes);

/// "0.21 s", "12.3 s", "2 min 5 s", "3 h 20 min".
std::string describe_seconds(double seconds);

/// Shows a person how far a picture is: one live line on a terminal, else a line for each stage
/// and step.
///
/// Thread   one at a time
class ProgressDisplay {
 public:
  enum class Form { none, lines, live };

  /// `columns` is asked for before each drawing; the live line never reaches the last column.
  ProgressDisplay(std::ostream& stream, Form form, std::function<int()> columns);
  ProgressDisplay(const ProgressDisplay&) = delete;
  ProgressDisplay& operator=(const ProgressDisplay&) = delete;

  /// Ends the live line, so that what comes next starts on its own.
  ~ProgressDisplay();

  /// One line about the picture that follows.
  void start(const std::string& headline);

  void update(const Progress& progress);

  /// Ends the live line, if there is one, with the whole picture's time.
  void finish();

  /// One line of its own.
  void say(const std::string& text);

 private:
  void draw(const Progress& progress);
  void draw_line(const std::string& label, double share, const std::string& rest);
  void print_line(const Progress& progress);
  std::string pace(const Progress& progress) const;
  void update_download(const Progress& progress);
  std::string describe_download(const Progress& progress) const;

  std::ostream& stream_;
  Form form_;
  std::function<int()> columns_;
  bool line_is_open_ = false;
  std::int64_t steps_ = 0;
  std::int64_t told_tenths_ = 0;  ///< Of the download, by a line of its own.
  bool is_downloading_ = false;
  double stage_secs_ = 0.0;  ///< Of the stage that ended last.
  double denoise_secs_ = 0.0;
  double step_secs_ = 0.0;  ///< Of the last step.
  Stopwatch picture_, stage_, step_;
};

/// Which form suits a stream: `columns` as in Context::terminal_columns.
ProgressDisplay::Form progress_form(bool quiet, int columns);

}  // namespace klein::cli
