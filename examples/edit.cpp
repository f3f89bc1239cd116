// Changes a picture by a sentence: edit PICTURE SENTENCE [MODEL]
#include <cstdio>
#include <exception>
#include <string>

#include <klein/klein.h>

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: edit PICTURE SENTENCE [MODEL]\n");
    return 2;
  }
  try {
    klein::Engine engine({.model = argc > 3 ? argv[3] : DEMO_MODEL});

    klein::GenerateRequest request;
    request.prompt = argv[2];
    request.seed = 7;
    request.references = {klein::io::load_picture(argv[1])};  // more of them: image 1, image 2, ...
    request.preview = [](const klein::Preview& preview) {
      const auto name = "preview_" + std::to_string(preview.step) + ".png";
      klein::io::write_atomically(
          name, klein::io::encode(preview.images.front(), klein::io::ImageFormat::png),
          klein::io::Overwrite::replace);
    };

    const auto result = engine.generate(request, [](const klein::Progress& progress) {
      std::printf("%s %d of %d\n", klein::name_of(progress.stage), static_cast<int>(progress.done),
                  static_cast<int>(progress.total));
      return true;  // false would stop the work
    });
    klein::io::write_atomically(
        "edit.png", klein::io::encode(result.images.front(), klein::io::ImageFormat::png),
        klein::io::Overwrite::replace);
    return 0;
  } catch (const klein::Error& error) {
    std::fprintf(stderr, "%s\n%s\n", error.what(), error.hint().c_str());
    return 1;
  }
}
