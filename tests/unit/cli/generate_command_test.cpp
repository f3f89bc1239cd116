#include <fstream>
#include <set>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "klein/io/file.h"
#include "klein/io/image.h"
#include "unit/cli/support.h"

namespace klein::test {
namespace {

using Strings = std::vector<std::string>;

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

nlohmann::json json_of(FakeProgram& program) {
  return nlohmann::json::parse(program.out.str());
}

TEST_SUITE("cli/generate_command") {
  TEST_CASE("every flag reaches the request") {
    const WorkingFolder folder;
    write("noise.safetensors", "x");
    write("embeds.safetensors", "x");
    FakeProgram program;
    program({"generate",
             "--model",
             "some/folder",
             "--negative-prompt",
             "blue",
             "--width",
             "64",
             "--height",
             "48",
             "--steps",
             "7",
             "--guidance",
             "2.5",
             "--seed",
             "18446744073709551615",
             "--latents",
             "noise.safetensors",
             "--save-latents",
             "l.safetensors",
             "--prompt-embeds",
             "embeds.safetensors",
             "--save-prompt-embeds",
             "e.safetensors",
             "--sigmas",
             "1.0",
             "0.5",
             "--rng",
             "mlx",
             "--vae-tiling",
             "exact",
             "--dtype",
             "float32",
             "--device",
             "cpu",
             "--overwrite",
             "--quiet"});

    REQUIRE(program.loaded.size() == 1);
    CHECK(program.loaded[0].model == "some/folder");
    CHECK(program.loaded[0].precision == Precision::float32);
    CHECK(program.loaded[0].device == DeviceChoice::cpu);
    REQUIRE(program.requests.size() == 1);
    const auto& request = program.requests[0];
    CHECK(request.prompt == "");
    CHECK(request.negative_prompt == "blue");
    CHECK(request.width == 64);
    CHECK(request.height == 48);
    CHECK(request.steps == 7);
    CHECK(request.guidance == 2.5);
    CHECK(request.seeds == std::vector<std::uint64_t>{18446744073709551615u});
    CHECK(request.rng == Rng::mlx);
    CHECK(request.vae_tiling == VaeTiling::exact);
    CHECK(request.sigmas == std::vector<float>{1.0f, 0.5f});
    CHECK(request.latents == "noise.safetensors");
    CHECK(request.save_latents.at(0) == "l.safetensors");
    CHECK(request.prompt_embeds == "embeds.safetensors");
    CHECK(request.save_prompt_embeds.at(0) == "e.safetensors");
    CHECK(request.overwrite);
  }

  TEST_CASE("what is not given is left to the model") {
    const WorkingFolder folder;
    ::unsetenv("KLEIN_MODEL");
    FakeProgram program;
    program({"generate", "a cat", "--width", "auto", "--height", "auto"});
    CHECK(program.loaded[0].model == "demo");
    CHECK(program.loaded[0].precision == Precision::bfloat16);
    CHECK(program.loaded[0].device == DeviceChoice::automatic);
    const auto& request = program.requests[0];
    CHECK(request.prompt == "a cat");
    CHECK_FALSE(request.negative_prompt);
    CHECK_FALSE(request.width);
    CHECK_FALSE(request.height);
    CHECK_FALSE(request.steps);
    CHECK_FALSE(request.guidance);
    CHECK(request.sigmas.empty());
    CHECK(request.rng == Rng::torch);
    CHECK(request.vae_tiling == VaeTiling::automatic);
    CHECK(folder.files() == Strings{"image.png"});
  }

  TEST_CASE("KLEIN_MODEL names the model where no flag does") {
    const WorkingFolder folder;
    ::setenv("KLEIN_MODEL", "from/environment", 1);
    FakeProgram program;
    program({"generate", "a cat"});
    program({"generate", "a cat", "-m", "from/flag"});
    ::unsetenv("KLEIN_MODEL");
    CHECK(program.loaded[0].model == "from/environment");
    CHECK(program.loaded[1].model == "from/flag");
  }

  TEST_CASE("a prompt comes from its argument, a flag, a file or standard input") {
    const WorkingFolder folder;
    write("prompt.txt", " \n a cat\nin a hat \n");
    FakeProgram program;
    program({"generate", "--prompt", "from a flag"});
    program({"generate", "--prompt-file", "prompt.txt"});
    program.in.str("  from input\n");
    program({"generate", "--prompt", "-", "--seed", "1", "2"});
    program({"generate", ""});
    program({"generate", "--prompt", ""});
    program({"generate", "bench"});
    program({"generate", "[a,b]"});
    program({"generate", "--seed", "1", "[c,d]"});
    Strings prompts;
    for (const auto& request : program.requests) prompts.push_back(request.prompt);
    CHECK(prompts == Strings{"from a flag", "a cat\nin a hat", "from input", "from input", "", "",
                             "bench", "[a,b]", "[c,d]"});
  }

  TEST_CASE("a prompt file is read again before every picture") {
    const WorkingFolder folder;
    write("prompt.txt", "first");
    FakeProgram program;
    program.stop_requested = [] {
      write("prompt.txt", "second");
      return false;
    };
    program({"generate", "--prompt-file", "prompt.txt", "--seed", "1", "2"});
    CHECK(program.requests[0].prompt == "first");
    CHECK(program.requests[1].prompt == "second");
  }

  TEST_CASE("a list of numbers does not swallow the prompt behind it") {
    const WorkingFolder folder;
    FakeProgram program;
    program({"generate", "--seed", "1", "2", "a cat"});
    program({"generate", "--sigmas", "1", ".5", "a dog"});
    CHECK(program.requests[0].prompt == "a cat");
    CHECK(program.requests[1].seeds == std::vector<std::uint64_t>{2});
    CHECK(program.requests[2].prompt == "a dog");
    CHECK(program.requests[2].sigmas.size() == 2);
  }

  TEST_CASE("a batch is 1 to 64 seeds, and needs seeds") {
    const WorkingFolder folder;
    FakeProgram program;
    const auto message_of = [&](const Strings& arguments) {
      const auto error = program.error(arguments);
      REQUIRE(error);
      return std::string(error->what());
    };
    CHECK(message_of({"generate", "x", "--batch", "0"}) == "expected --batch to be 1 to 64, got 0");
    CHECK(message_of({"generate", "x", "--batch", "65"}) ==
          "expected --batch to be 1 to 64, got 65");
    CHECK(message_of({"generate", "x", "--batch", "2", "--latents", "l.safetensors"}) ==
          "expected --batch or --latents, got both");
    program({"generate", "x", "--batch", "2", "--seed", "1"});
    CHECK(program.err.str().find("warning: --batch has no effect on a single seed\n") !=
          std::string::npos);
  }

  TEST_CASE("drawn seeds differ, are shown and stand in the report") {
    const WorkingFolder folder;
    FakeProgram program;
    program({"generate", "a cat", "--auto-seeds", "20", "--json"});
    std::set<std::uint64_t> seeds;
    for (const auto& request : program.requests) seeds.insert(request.seeds.at(0));
    CHECK(seeds.size() == 20);
    const auto reported = json_of(program)["seeds"].get<std::vector<std::uint64_t>>();
    CHECK(std::set<std::uint64_t>(reported.begin(), reported.end()) == seeds);
    CHECK(program.err.str().find("seed " + std::to_string(reported[0]) + "\n") !=
          std::string::npos);
  }

  TEST_CASE("several pictures get several names, and no file is replaced") {
    const WorkingFolder folder;
    write("a.png", "old");
    write("c_seed_5.png", "old");
    FakeProgram program;
    SUBCASE("the seed goes into the name") {
      program({"generate", "x", "--seed", "1", "2", "--output", "b.png"});
      CHECK(folder.files() == Strings{"a.png", "b_seed_1.png", "b_seed_2.png", "c_seed_5.png"});
    }
    SUBCASE("or where {seed} stands, in the folder too") {
      program({"generate", "x", "--seed", "3", "4", "--output", "{seed}/x{seed}y{seed}.png"});
      CHECK(folder.files() == Strings{"3/x3y3.png", "4/x4y4.png", "a.png", "c_seed_5.png"});
    }
    SUBCASE("a taken name gets a number and a warning") {
      program({"generate", "x", "--output", "a.png", "--json"});
      CHECK(json_of(program)["files"] == nlohmann::json{"a_1.png"});
      CHECK(io::read_text("a.png") == "old");
      CHECK(program.err.str().find("warning: a.png exists already, so the picture is a_1.png\n") !=
            std::string::npos);
    }
    SUBCASE("--overwrite replaces it") {
      program({"generate", "x", "--output", "a.png", "--overwrite", "--json"});
      CHECK(json_of(program)["files"] == nlohmann::json{"a.png"});
      CHECK(io::load_image("a.png").width == 2);
    }
    SUBCASE("but never a picture of the same run") {
      program({"generate", "x", "--seed", "5", "5", "--output", "c.png", "--overwrite"});
      CHECK(folder.files() == Strings{"a.png", "c_seed_5.png", "c_seed_5_1.png"});
    }
    SUBCASE("a batch is numbered") {
      program.pictures = 3;
      program({"generate", "x", "--output", "d.webp", "--json"});
      CHECK(json_of(program)["files"] == nlohmann::json{"d_1.webp", "d_2.webp", "d_3.webp"});
    }
    SUBCASE("tensors get the seed as well") {
      program({"generate", "x", "--seed", "1", "2", "--output", "b.png", "--save-latents",
               "l.safetensors", "--save-prompt-embeds", "e{seed}.safetensors"});
      CHECK(program.requests[0].save_latents.at(0) == "l_seed_1.safetensors");
      CHECK(program.requests[1].save_latents.at(0) == "l_seed_2.safetensors");
      CHECK(program.requests[1].save_prompt_embeds.at(0) == "e2.safetensors");
    }
    SUBCASE("seeds that are painted at once keep their own names, tensors and steps") {
      program({"generate", "x", "--seed", "1", "2", "3", "--batch", "2", "--steps", "1", "--json",
               "--output", "b.png", "--save-latents", "l.safetensors",
               "--stepwise-image-output-dir", "s"});
      REQUIRE(program.requests.size() == 2);
      CHECK(program.requests[0].seeds == std::vector<std::uint64_t>{1, 2});
      CHECK(program.requests[0].next == NextRequest::same_prompts);
      CHECK(program.requests[0].save_latents ==
            std::vector<std::filesystem::path>{"l_seed_1.safetensors", "l_seed_2.safetensors"});
      CHECK(program.requests[1].seeds == std::vector<std::uint64_t>{3});
      CHECK(program.requests[1].next == NextRequest::none);
      const auto json = json_of(program);
      CHECK(json["files"] == nlohmann::json{"b_seed_1.png", "b_seed_2.png", "b_seed_3.png"});
      CHECK(json["batch"] == 2);
      for (const char* name :
           {"s/seed_1_step1of1.png", "s/seed_2_composite.png", "s/seed_3_composite.png"})
        CHECK(std::filesystem::exists(name));
      const auto log = program.err.str();
      CHECK(log.find("pictures 1 to 2 of 3, seeds 1, 2\n") != std::string::npos);
      CHECK(log.find("picture 3 of 3, seed 3\n") != std::string::npos);
      CHECK(log.find(" for all 2\n") != std::string::npos);
    }
  }

  TEST_CASE("the report holds what was made and how long it took") {
    const WorkingFolder folder;
    FakeProgram program;
    program.warnings = {"width 65 is not a multiple of 16, using 64"};
    program(
        {"generate", "x", "--seed", "1", "2", "--steps", "3", "--json", "--quiet", "--model", "m"});
    const auto json = json_of(program);
    CHECK(json["files"] == nlohmann::json{"image_seed_1.png", "image_seed_2.png"});
    CHECK(json["seeds"] == nlohmann::json{1, 2});
    CHECK(json["seconds"]["denoise"] == 2.0);
    CHECK(json["seconds"]["load"] == 1.0);
    CHECK(json["seconds"]["total"].get<double>() >= json["seconds"]["save"].get<double>());
    CHECK(json["step_seconds"].size() == 6);
    CHECK(json["peak_memory_bytes"] == 1000);
    CHECK(json["width"] == 256);
    CHECK(json["height"] == 256);
    CHECK(json["steps"] == 3);
    CHECK(json["guidance"] == 1.0);
    CHECK(json["model"] == "m");
    CHECK(json["warnings"] == nlohmann::json{"width 65 is not a multiple of 16, using 64"});
    CHECK(program.err.str() == "warning: width 65 is not a multiple of 16, using 64\n");
  }

  TEST_CASE("flags without effect are named") {
    const WorkingFolder folder;
    write("t.safetensors", "x");
    FakeProgram program;
    program.info.is_distilled = false;
    program({"generate", "x", "--quiet", "--seed", "1", "--auto-seeds", "2", "--latents",
             "t.safetensors", "--prompt-embeds", "t.safetensors", "--negative-prompt", "y",
             "--guidance", "1"});
    CHECK(program.requests.size() == 1);
    CHECK(program.err.str() ==
          "warning: PROMPT has no effect beside --prompt-embeds\n"
          "warning: --auto-seeds has no effect beside --seed\n"
          "warning: seeds have no effect on the picture beside --latents\n"
          "warning: the negative prompt has no effect without a guidance above 1\n");
  }

  TEST_CASE("a stop between the steps leaves no file") {
    const WorkingFolder folder;
    FakeProgram program;
    int asked = 0;
    program.stop_requested = [&] { return ++asked > 8; };
    const auto error = program.error({"generate", "x"});
    REQUIRE(error);
    CHECK(error->kind() == ErrorKind::cancelled);
    CHECK(folder.files().empty());
  }
}

TEST_SUITE("cli/generate_command errors") {
  struct Mistake {
    Strings arguments;
    ErrorKind kind;
    const char* message;
  };

  TEST_CASE("a mistake is named before a model is loaded") {
    const WorkingFolder folder;
    write("old.safetensors", "x");
    write("blank.txt", " \n");
    const auto usage = ErrorKind::usage;
    const Mistake mistakes[] = {
        {{}, usage, "expected a prompt, got none"},
        {{"x", "--prompt", "y"}, usage, "expected one prompt, got PROMPT and --prompt"},
        {{"--prompt", "y", "--prompt-file", "z"},
         usage,
         "expected one prompt, got --prompt and --prompt-file"},
        {{"--prompt", "x", "--prompt", "y"}, usage, "expected --prompt once, got it several times"},
        {{"a", "red", "apple"}, usage, "expected nothing more, got \"red\""},
        {{"--prompt-file", "none.txt"}, ErrorKind::not_found, nullptr},
        {{"--prompt-file", "blank.txt"},
         usage,
         "expected a prompt in the file, got none: blank.txt"},
        {{"--prompt", "-"}, usage, "expected a prompt on standard input, got none"},
        {{"x", "--seed", "-1"},
         usage,
         "expected a seed to be a whole number from 0 to 18446744073709551615, got \"-1\""},
        {{"x", "--seed", "18446744073709551616"},
         usage,
         "expected a seed to be a whole number from 0 to 18446744073709551615, got "
         "\"18446744073709551616\""},
        {{"--seed", "a cat"},
         usage,
         "expected a seed to be a whole number from 0 to 18446744073709551615, got \"a cat\""},
        {{"x", "--seed"}, usage, "expected a value after --seed, got none"},
        {{"x", "--auto-seeds", "0"}, usage, "expected --auto-seeds to be 1 to 100000, got 0"},
        {{"x", "--width"}, usage, "expected a value after --width, got none"},
        {{"x", "--width", "2x"}, usage, "expected pixels or auto, got the scale 2x"},
        {{"x", "--width", "2.5"},
         usage,
         "expected --width to be a whole number of pixels, a scale such as 2x, or auto, got "
         "\"2.5\""},
        {{"x", "--height", "99999999999"},
         usage,
         "expected --height to be a whole number of pixels, a scale such as 2x, or auto, got "
         "\"99999999999\""},
        {{"x", "--height", "-16"}, usage, nullptr},
        {{"x", "--width", "100000", "--height", "100000"}, usage, nullptr},
        {{"x", "--steps", "0"}, usage, "expected 1 to 1000 steps, got 0"},
        {{"x", "--steps", "four"}, usage, "expected --steps to be a whole number, got \"four\""},
        {{"x", "--guidance", "nan"}, usage, nullptr},
        {{"x", "--guidance", "1,5"}, usage, "expected --guidance to be a number, got \"1,5\""},
        {{"x", "--sigmas", "1", "0"}, usage, nullptr},
        {{"x", "--rng", "numpy"}, usage, "expected --rng to be torch or mlx, got \"numpy\""},
        {{"x", "--vae-tiling", "on"},
         usage,
         "expected --vae-tiling to be auto or off or exact or diffusers, got \"on\""},
        {{"x", "--dtype", ""}, usage, "expected --dtype to be bfloat16 or float32, got \"\""},
        {{"x", "--device", "tpu"},
         usage,
         "expected --device to be auto or cpu or gpu, got \"tpu\""},
        {{"x", "--output", "x.gif"}, usage, nullptr},
        {{"x", "--widht", "4"}, usage, "expected a flag of klein generate, got \"--widht\""},
        {{"x", "--latents", "none"}, ErrorKind::not_found, nullptr},
        {{"x", "--prompt-embeds", "none"}, ErrorKind::not_found, nullptr},
    };
    for (const auto& mistake : mistakes) {
      Strings arguments = {"generate"};
      arguments.insert(arguments.end(), mistake.arguments.begin(), mistake.arguments.end());
      CAPTURE(arguments.back());
      FakeProgram program;
      const auto error = program.error(arguments);
      REQUIRE(error);
      CHECK(error->kind() == mistake.kind);
      if (mistake.message != nullptr) CHECK(std::string(error->what()) == mistake.message);
      CHECK(program.loaded.empty());
      CHECK(program.out.str().empty());
    }
    CHECK(folder.files() == Strings{"blank.txt", "old.safetensors"});
  }

  TEST_CASE("files that cannot be written are found before any work") {
    const WorkingFolder folder;
    write("old.safetensors", "x");
    const Mistake mistakes[] = {
        {{"--save-latents", "old.safetensors"},
         ErrorKind::usage,
         "expected a new file, but one exists already: old.safetensors"},
        {{"--save-latents", "n.safetensors", "--save-prompt-embeds", "./n.safetensors"},
         ErrorKind::usage,
         "expected a file for each picture and kind of tensor, but two would be written to one: "
         "./n.safetensors"},
        {{"--seed", "1", "1", "--save-latents", "n{seed}.safetensors"},
         ErrorKind::usage,
         "expected a file for each picture and kind of tensor, but two would be written to one: "
         "n1.safetensors"},
        {{"--output", "old.safetensors/x.png"}, ErrorKind::io, nullptr},
        {{"--output", "old.safetensors/x.png", "--overwrite"}, ErrorKind::io, nullptr},
        {{"--save-latents", "old.safetensors/x"}, ErrorKind::io, nullptr},
        {{"--output", std::string(300, 'x') + ".png"}, ErrorKind::io, nullptr},
    };
    for (const auto& mistake : mistakes) {
      Strings arguments = {"generate", "x"};
      arguments.insert(arguments.end(), mistake.arguments.begin(), mistake.arguments.end());
      CAPTURE(arguments.back());
      FakeProgram program;
      const auto error = program.error(arguments);
      REQUIRE(error);
      CHECK(error->kind() == mistake.kind);
      if (mistake.message != nullptr) CHECK(std::string(error->what()) == mistake.message);
      CHECK(program.requests.empty());
    }
    CHECK(folder.files() == Strings{"old.safetensors"});
  }
}

}  // namespace
}  // namespace klein::test
