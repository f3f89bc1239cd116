#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "klein/io/json.h"
#include "unit/cli/support.h"

namespace klein::cli {
namespace {

using test::FakeProgram;
using test::WorkingFolder;
using Strings = std::vector<std::string>;

std::string message_of(const Strings& arguments) {
  FakeProgram program;
  const auto error = program.error(arguments);
  REQUIRE(error);
  CHECK(error->kind() == ErrorKind::usage);
  return error->what();
}

/// A Python that answers by these lines of shell, and before klein's first picture by `check`.
std::string fake_python(const std::string& body, const std::string& check = "echo '{}'") {
  std::ofstream("python") << "#!/bin/sh\nif [ \"$2\" = --check ]; then " << check
                          << "; exit 0; fi\necho \"$@\" > arguments\n"
                          << body << "\n";
  std::filesystem::permissions("python", std::filesystem::perms::owner_all);
  return std::filesystem::absolute("python").string();
}

const char* const kAnswers =
    "echo '{\"program\": \"diffusers 1.0\", \"device\": \"cuda\"}'\n"
    "while read line; do\n"
    "  echo \"$line\" >> requests\n"
    "  case $line in\n"
    "    *eager*) echo '{\"text\": 1.0, \"step\": 2.0, \"decode\": 0.5, \"picture\": 9.0,"
    " \"latents_cosine\": 0.5, \"latents_error\": 0.25, \"picture_psnr\": 40.0}' ;;\n"
    "    *) echo '{\"text\": 0.5, \"step\": 1.0, \"decode\": 1.0, \"picture\": 3.0,"
    " \"latents_cosine\": 0, \"latents_error\": 0, \"picture_psnr\": 0}' ;;\n"
    "  esac\n"
    "done\n";

/// A model's folder, and where the comparison's script lies.
struct Place {
  Place() {
    std::filesystem::create_directories("model");
    std::ofstream("model/model_index.json") << "{}";
    std::filesystem::create_directories("tools");
    std::ofstream("tools/compare_diffusers.py") << "";
    ::setenv("KLEIN_MODELS", std::filesystem::absolute("models").c_str(), 1);
    program.info.folder = std::filesystem::absolute("model");
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { ::unsetenv("KLEIN_MODELS"); }

  WorkingFolder folder;
  FakeProgram program;
};

TEST_SUITE("cli/bench_command") {
  TEST_CASE(
      "the report holds the first picture, warm ones, speeds and their share of a product's") {
    FakeProgram program;
    program({"bench", "--steps", "2", "--width", "64", "--json", "--quiet"});
    const auto json = nlohmann::json::parse(program.out.str());
    CHECK(json["tflops_per_second"]["text"] == 2.0);     // 0.5 TFLOP in 0.25 s
    CHECK(json["tflops_per_second"]["step"] == 2.0);     // 1 TFLOP in 0.5 s
    CHECK(json["tflops_per_second"]["denoise"] == 2.0);  // 2 steps in 1 s
    CHECK(json["tflops_per_second"]["decode"] == 2.0);   // 0.25 TFLOP in 0.125 s
    CHECK(json["tflops_per_second"]["gemm"] == 5.0);
    CHECK(json["step_share_of_gemm"] == doctest::Approx(0.4));
    CHECK(json["precision"].is_null());
    CHECK(json["first"]["total"] == 1.875);
    CHECK(json["seconds"]["total"] == 1.5);
    CHECK(json["seconds"]["encode_text"] == 0.25);
    CHECK(json["warm"]["picture_cached_prompt"]["median"] == 1.25);
    CHECK(json["warm"]["step"]["best"] == 0.25);
    CHECK(json["step_seconds"] == nlohmann::json{0.25, 0.5, 0.75});
    CHECK(json["peak_memory_bytes"] == 2000);
    CHECK(json["width"] == 64);
    CHECK(json["runs"] == 3);
    CHECK(json["batches"].empty());
    CHECK(json["diffusers"].is_null());
    CHECK(program.err.str().empty());
  }

  TEST_CASE("the table shows the same") {
    FakeProgram program;
    program({"bench", "--runs", "1", "--batch", "1", "8", "--quiet"});
    CHECK(program.out.str() ==
          "demo: 256 x 256, 4 steps, guidance 1, bfloat16 on cpu; 1 warm run\n"
          "\n"
          "seconds             first     median       best    TFLOP/s\n"
          "load               0.5000          -          -          -\n"
          "text               0.2500     0.2500     0.1250      2.000\n"
          "denoise            1.0000     1.0000     0.5000      4.000\n"
          "step               0.2500     0.5000     0.2500      2.000\n"
          "decode             0.1250     0.1250     0.0625      2.000\n"
          "picture            1.8750     1.5000     0.7500          -\n"
          "cached prompt           -     1.2500     0.5000          -\n"
          "GEMM                    -          -          -      5.000\n"
          "\n"
          "a step reaches 40 % of the speed of one matrix product\n"
          "peak memory 0.00 GB\n"
          "\n"
          "at once            median       best pictures/s\n"
          "1                  2.0000     1.0000      0.500\n"
          "8                  2.0000     1.0000      4.000\n");
  }

  TEST_CASE("diffusers takes turns with klein, and stands beside it") {
    Place place;
    const auto python = fake_python(kAnswers);
    auto& program = place.program;
    program({"bench", "--runs", "2", "--compare-diffusers", "--compile", "default", "--python",
             python, "--prompt", "a fox", "--quiet"});
    const auto table = program.out.str();
    CHECK(table.substr(table.find("\ndiffusers")) ==
          "\ndiffusers 1.0 on cuda, taking turns with klein; medians\n"
          "seconds             klein      eager   compiled      ratio\n"
          "text               0.2500     1.0000     0.5000      2.00x\n"
          "step               0.5000     2.0000     1.0000      2.00x\n"
          "decode             0.1250     0.5000     1.0000      4.00x\n"
          "picture            1.5000     9.0000     3.0000      2.00x\n"
          "\n"
          "final latents: cosine 0.500000, relative error 2.50e-01; picture: PSNR 40.0 dB\n");
    CHECK(table.find("\nits products and attention alone take 0.4000 s, 80.0 % of the median step"
                     "\n") != std::string::npos);
    std::ifstream requests("requests");
    Strings lines;
    for (std::string line; std::getline(requests, line);) lines.push_back(line);
    CHECK(lines == Strings{R"({"prompt":"a fox","run":"eager"})",
                           R"({"prompt":"a fox, 1","run":"eager"})",
                           R"({"prompt":"a fox, 2","run":"eager"})",
                           R"({"prompt":"a fox","run":"compiled"})",
                           R"({"prompt":"a fox, 3","run":"compiled"})",
                           R"({"prompt":"a fox, 4","run":"compiled"})"});
    std::ifstream arguments("arguments");
    std::string words;
    std::getline(arguments, words);
    CHECK(words.find(" --device cpu --dtype bfloat16 --width 256 --height 256 --steps 4 --compile "
                     "default --noise ") != std::string::npos);

    program.out.str("");
    program({"bench", "--compare-diffusers", "--python", python, "--json", "--quiet"});
    const auto json = nlohmann::json::parse(program.out.str());
    CHECK(json["diffusers"]["eager"]["step"]["median"] == 2.0);
    CHECK(json["diffusers"]["compiled"].is_null());
    CHECK(json["diffusers"]["ratio"]["step"] == 4.0);
    CHECK(json["diffusers"]["picture_psnr"] == 40.0);
    CHECK(json["floor_seconds"] == 0.4);
    CHECK(json["floor_share_of_step"] == doctest::Approx(0.8));
  }

  TEST_CASE("a Python that cannot serve is told by one sentence") {
    Place place;
    const auto failure = [&](const std::string& python) {
      const auto error =
          place.program.error({"bench", "--compare-diffusers", "--python", python, "--quiet"});
      REQUIRE(error);
      return std::string(error->what()) + " | " + error->hint();
    };
    CHECK(failure("no-such-python") ==
          "cannot start the program (No such file or directory): no-such-python | ");
    CHECK(failure(
              fake_python("echo '{\"error\": \"expected diffusers\", \"hint\": \"Install.\"}'")) ==
          "expected diffusers | Install.");
    CHECK(
        failure(fake_python("true", "echo '{\"error\": \"expected numpy\", \"hint\": \"Go.\"}'")) ==
        "expected numpy | Go.");
    CHECK(failure(fake_python("true", "true")).find("cannot run diffusers by ") == 0);
    const auto python = fake_python("echo first >&2; echo 'out of cheese' >&2; exit 1");
    CHECK(failure(python) == "cannot run diffusers by " + python + ": \"out of cheese\" | ");
    CHECK(failure(fake_python("echo hello")) ==
          "expected an answer of compare_diffusers.py in JSON, got \"hello\" | ");
    const std::string begin = "echo '{\"program\": \"d\", \"device\": \"cpu\"}'; read line; ";
    CHECK(failure(fake_python(begin + "echo boom >&2")) ==
          "expected diffusers to draw a picture, but it ended: \"boom\" | ");
    CHECK(failure(fake_python(begin + "echo '{\"text\": 1}'")) ==
          "expected an answer of compare_diffusers.py in JSON, got \"{\"text\": 1}\" | ");
  }

  TEST_CASE("what cannot be measured or compared is refused") {
    CHECK(message_of({"bench", "--runs", "0"}) == "expected 1 to 1000 runs, got 0");
    CHECK(message_of({"bench", "--batch", "4", "65"}) ==
          "expected a batch of 1 to 64 pictures, got 65");
    CHECK(message_of({"bench", "--batch", "x"}) ==
          "expected --batch to be a whole number, got \"x\"");
    CHECK(message_of({"bench", "--python", "p"}) ==
          "expected --compare-diffusers beside --python, got none");
    CHECK(message_of({"bench", "--compile", "default"}) ==
          "expected --compare-diffusers beside --compile, got none");
    CHECK(message_of({"bench", "--compare-diffusers", "--edit", "1"}) ==
          "expected --compare-diffusers or --edit, got both");
    CHECK(message_of({"bench", "--compare-diffusers", "-q", "4"}) ==
          "expected --compare-diffusers or packed weights, got both");
    CHECK(message_of({"bench", "--compare-diffusers", "--vae", "v"}) ==
          "expected --compare-diffusers or parts of other models, got both");
    CHECK(message_of({"bench", "--compare-diffusers", "--lora", "l"}) ==
          "expected --compare-diffusers or LoRAs, got both");
    CHECK(message_of({"bench", "--compare-diffusers"}) ==
          "expected a model in diffusers' layout to compare with, got: /models/demo");
  }
}

}  // namespace
}  // namespace klein::cli
