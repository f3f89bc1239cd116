// Paints a prompt with a model folder: hello [PROMPT] [MODEL]
#include <cstdio>
#include <exception>
#include <string>

#include <klein/klein.h>

int main(int argc, char** argv) {
  const std::string prompt = argc > 1 ? argv[1] : "a red apple on a blue background";
  const std::string model = argc > 2 ? argv[2] : DEMO_MODEL;
  try {
    klein::Engine engine({.model = model});

    klein::GenerateRequest request;
    request.prompt = prompt;
    request.seed = 7;
    const auto result = engine.generate(request, [](const klein::Progress& progress) {
      if (progress.stage == klein::Stage::denoise)
        std::printf("step %d of %d\n", progress.done, progress.total);
      return true;  // false would stop the work
    });

    const auto png = klein::io::encode(result.images.front(), klein::io::ImageFormat::png);
    const auto file = klein::io::write_atomically("hello.png", png, klein::io::Overwrite::replace);
    std::printf("%s: %d x %d pixels\n", file.c_str(), result.width, result.height);
    return 0;
  } catch (const klein::Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
}
