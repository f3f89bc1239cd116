#include "klein/cli/progress_display.h"

#include <regex>
#include <sstream>

#include <doctest/doctest.h>

namespace klein::cli {
namespace {

void show_a_picture(ProgressDisplay& display) {
  display.start("seed 7");
  for (const auto& [stage, total] : {std::pair{Stage::load, 2}, std::pair{Stage::encode_text, 1},
                                     std::pair{Stage::denoise, 2}, std::pair{Stage::decode, 1}})
    for (int done = 0; done <= total; ++done)
      display.update({.stage = stage, .done = done, .total = total});
  display.finish();
}

std::string without_times(const std::string& text) {
  return std::regex_replace(text, std::regex("[0-9.]+ s\\b"), "T");
}

TEST_SUITE("cli/progress_display") {
  TEST_CASE("durations read as people say them") {
    CHECK(describe_seconds(0.0) == "0.00 s");
    CHECK(describe_seconds(9.99) == "9.99 s");
    CHECK(describe_seconds(9.999) == "10.0 s");
    CHECK(describe_seconds(99.9) == "99.9 s");
    CHECK(describe_seconds(125.0) == "2 min 5 s");
    CHECK(describe_seconds(12000.0) == "3 h 20 min");
  }

  TEST_CASE("without a terminal every stage and step is a line") {
    std::ostringstream stream;
    ProgressDisplay display(stream, progress_form(false, 0), [] { return 0; });
    show_a_picture(display);
    CHECK(without_times(stream.str()) ==
          "seed 7\n"
          "load: T\n"
          "text: T\n"
          "step 1 of 2: T, T left\n"
          "step 2 of 2: T\n"
          "decode: T\n");
  }

  TEST_CASE("a terminal shows one line that is drawn again and again, and then ends") {
    std::ostringstream stream;
    ProgressDisplay display(stream, progress_form(false, 80), [] { return 80; });
    show_a_picture(display);
    CHECK(without_times(stream.str()) ==
          "seed 7\n"
          "\rload   [>                   ] 0/2\x1b[K"
          "\rload   [==========>         ] 1/2\x1b[K"
          "\rload   [====================] 2/2\x1b[K"
          "\rtext   [>                   ] \x1b[K"
          "\rtext   [====================] \x1b[K"
          "\rstep   [>                   ] 0/2\x1b[K"
          "\rstep   [==========>         ] 1/2  T/step, T left\x1b[K"
          "\rstep   [====================] 2/2  T/step\x1b[K"
          "\rdecode [>                   ] \x1b[K"
          "\rdecode [====================] \x1b[K"
          "\rdone   [====================] T, 2 steps of T\x1b[K\n");
  }

  TEST_CASE("the live line fits a narrow terminal and is ended by whatever follows") {
    std::ostringstream stream;
    {
      ProgressDisplay display(stream, ProgressDisplay::Form::live, [] { return 12; });
      display.update({.stage = Stage::decode, .done = 0, .total = 1});
    }
    CHECK(stream.str() == "\rdecode [>  \x1b[K\n");
  }

  TEST_CASE("sizes read as people say them") {
    CHECK(describe_bytes(0) == "0 B");
    CHECK(describe_bytes(999) == "999 B");
    CHECK(describe_bytes(2048) == "2.0 kB");
    CHECK(describe_bytes(11.44e6) == "11.4 MB");
    CHECK(describe_bytes(15.98e9) == "15.98 GB");
  }

  TEST_CASE("a download has a bar with its rate on a terminal, else a line for every tenth") {
    const auto fetch = [](ProgressDisplay& display) {
      for (const auto& [done, total] :
           {std::pair{0, 0}, {0, 4000}, {80, 4000}, {2000, 4000}, {2080, 4000}, {4000, 4000}})
        display.update({.stage = Stage::download, .done = done, .total = total});
    };
    const auto plain = [](const std::string& text) {
      return std::regex_replace(text, std::regex("[0-9.]+ [kMG]?B/s"), "R");
    };
    std::ostringstream lines, bar;
    ProgressDisplay first(lines, ProgressDisplay::Form::lines, [] { return 0; });
    fetch(first);
    CHECK(without_times(plain(lines.str())) ==
          "fetch: 2.0 kB of 4.0 kB  R, T left\nfetch: 4.0 kB, T\n");
    ProgressDisplay second(bar, ProgressDisplay::Form::live, [] { return 80; });
    fetch(second);
    CHECK(without_times(plain(bar.str())) ==
          "\rfetch  [>                   ] 0 B of 4.0 kB\x1b[K"
          "\rfetch  [>                   ] 80 B of 4.0 kB  R, T left\x1b[K"
          "\rfetch  [==========>         ] 2.0 kB of 4.0 kB  R, T left\x1b[K"
          "\rfetch  [==========>         ] 2.1 kB of 4.0 kB  R, T left\x1b[K"
          "\rfetch  [====================] 4.0 kB of 4.0 kB  R\x1b[K");
  }

  TEST_CASE("a quiet display says nothing") {
    std::ostringstream stream;
    ProgressDisplay display(stream, progress_form(true, 80), [] { return 80; });
    show_a_picture(display);
    CHECK(stream.str().empty());
  }
}

}  // namespace
}  // namespace klein::cli
