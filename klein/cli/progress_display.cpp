#include "klein/cli/progress_display.h"

#include <algorithm>
#include <cmath>
#include <ostream>
#include <utility>

#include <fmt/format.h>

#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr int kBarCells = 20;

const char* label_of(Stage stage) {
  switch (stage) {
    case Stage::download:
      return "fetch";
    case Stage::load:
      return "load";
    case Stage::encode_text:
      return "text";
    case Stage::encode_image:
      return "picture";
    case Stage::denoise:
      return "step";
    case Stage::decode:
      return "decode";
    case Stage::save:
      return "save";
  }
  return "";
}

std::string bar(double share) {
  const int full = static_cast<int>(std::lround(share * kBarCells));
  std::string cells(static_cast<std::size_t>(full), '=');
  if (full < kBarCells) cells += '>';
  cells.resize(kBarCells, ' ');
  return '[' + cells + ']';
}

}  // namespace

std::string describe_bytes(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1e6) return fmt::format("{:.1f} kB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.2f} GB", bytes / 1e9);
}

std::string describe_seconds(double seconds) {
  if (seconds < 9.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 99.95) return fmt::format("{:.1f} s", seconds);
  const long whole = std::lround(seconds);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

ProgressDisplay::Form progress_form(bool quiet, int columns) {
  if (quiet) return ProgressDisplay::Form::none;
  return columns > 0 ? ProgressDisplay::Form::live : ProgressDisplay::Form::lines;
}

ProgressDisplay::ProgressDisplay(std::ostream& stream, Form form, std::function<int()> columns)
    : stream_(stream), form_(form), columns_(std::move(columns)) {}

ProgressDisplay::~ProgressDisplay() {
  if (line_is_open_) stream_ << '\n' << std::flush;
}

void ProgressDisplay::start(const std::string& headline) {
  say(headline);
  steps_ = 0;
  denoise_secs_ = 0.0;
  picture_.restart();
}

void ProgressDisplay::say(const std::string& text) {
  if (form_ == Form::none) return;
  if (std::exchange(line_is_open_, false)) stream_ << '\n';
  stream_ << text << '\n' << std::flush;
}

void ProgressDisplay::update(const Progress& progress) {
  if (progress.stage == Stage::download) return update_download(progress);
  if (progress.done == 0) {
    stage_.restart();
  } else if (progress.stage == Stage::denoise) {
    step_secs_ = step_.seconds();
    denoise_secs_ = stage_.seconds();
    steps_ = progress.done;
  }
  step_.restart();
  stage_secs_ = stage_.seconds();
  if (form_ == Form::live) draw(progress);
  if (form_ == Form::lines) print_line(progress);
}

/// Speed and the time left, both by what came so far.
std::string ProgressDisplay::describe_download(const Progress& progress) const {
  const double done = static_cast<double>(progress.done);
  const double left = static_cast<double>(progress.total - progress.done);
  const double speed = stage_secs_ > 0.0 ? done / stage_secs_ : 0.0;
  auto text = fmt::format("{} of {}", describe_bytes(done),
                          describe_bytes(static_cast<double>(progress.total)));
  if (speed > 0.0) text += fmt::format("  {}/s", describe_bytes(speed));
  if (speed > 0.0 && left > 0.0) text += fmt::format(", {} left", describe_seconds(left / speed));
  return text;
}

/// The total is unknown at first; without a terminal, every tenth of it is a line.
void ProgressDisplay::update_download(const Progress& progress) {
  if (!std::exchange(is_downloading_, true)) {
    stage_.restart();
    told_tenths_ = 0;
  }
  stage_secs_ = stage_.seconds();
  if (progress.total == 0) return;
  const bool is_last = progress.done == progress.total;
  const auto tenths = progress.done * 10 / progress.total;
  if (form_ == Form::live)
    draw_line(label_of(progress.stage),
              static_cast<double>(progress.done) / static_cast<double>(progress.total),
              describe_download(progress));
  if (form_ == Form::lines && tenths > told_tenths_ && !is_last)
    say("fetch: " + describe_download(progress));
  if (form_ == Form::lines && is_last)
    say(fmt::format("fetch: {}, {}", describe_bytes(static_cast<double>(progress.total)),
                    describe_seconds(stage_secs_)));
  told_tenths_ = tenths;
  is_downloading_ = !is_last;
}

std::string ProgressDisplay::pace(const Progress& progress) const {
  if (progress.done == 0) return {};
  const double per_step = denoise_secs_ / static_cast<double>(progress.done);
  auto text = fmt::format("{}/step", describe_seconds(per_step));
  if (progress.done < progress.total)
    text += fmt::format(
        ", {} left",
        describe_seconds(per_step * static_cast<double>(progress.total - progress.done)));
  return text;
}

void ProgressDisplay::draw(const Progress& progress) {
  const double share = static_cast<double>(progress.done) /
                       static_cast<double>(std::max<std::int64_t>(progress.total, 1));
  auto rest = progress.total > 1 ? fmt::format("{}/{}", progress.done, progress.total) : "";
  if (progress.stage == Stage::denoise && progress.done > 0) rest += "  " + pace(progress);
  draw_line(label_of(progress.stage), share, rest);
}

void ProgressDisplay::draw_line(const std::string& label, double share, const std::string& rest) {
  auto text = fmt::format("{:<6} {} {}", label, bar(share), rest);
  const int columns = columns_();
  if (columns > 1) text.resize(std::min(text.size(), static_cast<std::size_t>(columns - 1)));
  stream_ << '\r' << text << "\x1b[K" << std::flush;
  line_is_open_ = true;
}

void ProgressDisplay::print_line(const Progress& progress) {
  const bool is_last = progress.done == progress.total;
  if (progress.stage == Stage::denoise && progress.done > 0) {
    auto line = fmt::format("step {} of {}: {}", progress.done, progress.total,
                            describe_seconds(step_secs_));
    if (!is_last)
      line += fmt::format(", {} left",
                          describe_seconds(denoise_secs_ / static_cast<double>(progress.done) *
                                           static_cast<double>(progress.total - progress.done)));
    say(line);
  } else if (progress.stage != Stage::denoise && is_last) {
    say(fmt::format("{}: {}", label_of(progress.stage), describe_seconds(stage_secs_)));
  }
}

void ProgressDisplay::finish() {
  if (form_ != Form::live) return;
  auto rest = describe_seconds(picture_.seconds());
  if (steps_ > 0)
    rest += fmt::format(", {} {} of {}", steps_, steps_ == 1 ? "step" : "steps",
                        describe_seconds(denoise_secs_ / static_cast<double>(steps_)));
  draw_line("done", 1.0, rest);
  stream_ << '\n' << std::flush;
  line_is_open_ = false;
}

}  // namespace klein::cli
