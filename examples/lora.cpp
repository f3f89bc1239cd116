// Draws one prompt with a LoRA at several strengths: lora FILE PROMPT [MODEL]
//
// The model is loaded once: a LoRA and its strength belong to the request, not to the engine.
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include <klein/klein.h>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: lora FILE PROMPT [MODEL]\n");
    return 2;
  }
  try {
    klein::Engine engine({.model = argc > 3 ? argv[3] : DEMO_MODEL});

    const auto draw = [&](double scale, const std::string& name) {
      try {
        klein::GenerateRequest request;
        request.prompt = argv[2];
        request.seed = 7;
        request.loras = {{.name = argv[1], .scale = scale}};
        const auto result = engine.generate(request);
        klein::io::write_atomically(
            name, klein::io::encode(result.images.front(), klein::io::ImageFormat::png),
            klein::io::Overwrite::replace);
      } catch (const klein::Error& error) {
        std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());
      }
    };
    // From several threads: the engine takes one after the other.
    std::vector<std::thread> threads;
    for (const double scale : {0.0, 0.5, 1.0})
      threads.emplace_back(draw, scale, "lora_" + std::to_string(scale).substr(0, 3) + ".png");
    for (auto& thread : threads) thread.join();
    return 0;
  } catch (const klein::Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
}
