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

  TEST_CASE("a quiet display says nothing") {
    std::ostringstream stream;
    ProgressDisplay display(stream, progress_form(true, 80), [] { return 80; });
    show_a_picture(display);
    CHECK(stream.str().empty());
  }
}

}  // namespace
}  // namespace klein::cli
