#include "klein/cli/picture_options.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "klein/cli/flags.h"
#include "klein/core/error.h"
#include "klein/io/picture.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

constexpr int kPixelsPerToken = 16;
constexpr double kMostPixels = 1 << 20;  // of a side; the request has its own limits

/// Whether a word is meant as a picture's file rather than as a prompt.
bool is_picture_name(const std::string& word) {
  std::error_code ignored;  // of a prompt that is too long for a name
  if (fs::exists(word, ignored)) return true;
  try {
    (void)io::format_for(word);
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// A flag takes every word up to the next one, the prompt too; a last one that is no picture is
/// given back.
void give_prompt_back(Words& words, const PictureOptions& options) {
  if (words.size() > 1 && !is_number(words.back()) && !is_picture_name(words.back()) &&
      options.take_prompt && options.take_prompt(words.back()))
    words.pop_back();
}

InitImage init_image(const Words& words) {
  if (words.size() > 2)
    throw Error(ErrorKind::usage,
                fmt::format("expected one picture and a strength behind --image, got {} words",
                            words.size()),
                "Several pictures are for klein edit --image-paths.");
  return {io::load_picture(words.front()), words.size() == 2
                                               ? parse_double(words[1], "the strength of --image")
                                               : InitImage{}.strength};
}

Margins parse_margins(const std::string& text) {
  const auto words = CLI::detail::split(text, ',');
  if (words.size() != 4)
    throw Error(ErrorKind::usage,
                fmt::format("expected --expand to be left,top,right,bottom in pixels, got {}",
                            io::in_quotes(text)));
  const auto at = [&](std::size_t i) { return parse_int(words[i], "--expand"); };
  return {.left = at(0), .top = at(1), .right = at(2), .bottom = at(3)};
}

const io::Picture* picture_to_scale(const GenerateRequest& request) {
  if (request.init_image) return &request.init_image->picture;
  return request.references.empty() ? nullptr : &request.references.front();
}

}  // namespace

void PictureOptions::fill(GenerateRequest& request) const {
  if (!init_words.empty() && (init_path || init_strength))
    throw Error(ErrorKind::usage,
                "expected --image alone, got --image-path or --image-strength beside it");
  if (!init_words.empty()) request.init_image = init_image(init_words);
  if (init_path)
    request.init_image =
        InitImage{io::load_picture(*init_path), init_strength.value_or(InitImage{}.strength)};
  if (init_strength && !init_path)
    throw Error(ErrorKind::usage, "expected --image-path beside --image-strength, got none");
  for (const auto& path : references) request.references.push_back(io::load_picture(path));
  if (!picture) return;
  auto task = inpaint;
  task.picture = io::load_picture(*picture);
  if (mask) task.mask = io::load_picture(*mask);
  if (reference) task.reference = io::load_picture(*reference);
  request.inpaint = std::move(task);
}

void add_init_image_flags(CLI::App& command, PictureOptions& o) {
  command
      .add_option_function<Words>(
          "--image",
          [&o](const Words& words) {
            o.init_words = unguarded(words);
            give_prompt_back(o.init_words, o);
          },
          "Picture to begin from, and how near to stay to it, 0 to 1 [0.4]")
      ->type_name(value::kFile);
  add_file(command, "--image-path", o.init_path, "The same for mflux's scripts: the picture");
  add_value(
      command, "--image-strength", value::kNumber, "and how near to stay to it [0.4]",
      [&o](const std::string& text) { o.init_strength = parse_double(text, "--image-strength"); });
}

void add_reference_flags(CLI::App& command, PictureOptions& o, GenerateRequest& request) {
  command
      .add_option_function<Words>(
          "--image-paths",
          [&o](Words words) {
            words = unguarded(words);
            give_prompt_back(words, o);
            o.references.assign(words.begin(), words.end());
          },
          "Pictures that the prompt speaks of, as image 1, image 2, ...")
      ->required()
      ->type_name(value::kFile);
  add_choice(
      command, "--kv-cache", {"auto", "on", "off"},
      "Read the pictures once for all steps [auto: with models made for it]",
      [&request](std::size_t i) {
        request.kv_cache = i == 0 ? KvCaching::automatic : i == 1 ? KvCaching::on : KvCaching::off;
      });
}

void add_inpaint_flags(CLI::App& command, PictureOptions& o) {
  command
      .add_option_function<std::string>(
          "--image", [&o](const std::string& text) { o.picture = unguarded(text); },
          "Picture to paint in")
      ->required()
      ->take_last()
      ->type_name(value::kFile);
  add_file(command, "--mask", o.mask, "White is painted anew [what is transparent in the picture]");
  add_value(
      command, "--strength", value::kNumber,
      "Share of the steps that is done; 1 forgets what was there [0.8]",
      [&o](const std::string& text) { o.inpaint.strength = parse_double(text, "--strength"); });
  add_file(command, "--reference", o.reference, "Another picture to look at");
  add_value(command, "--padding-mask-crop", value::kNumber,
            "Work on the mask's surroundings alone, so many pixels wide",
            [&o](const std::string& text) {
              o.inpaint.canvas.padding_mask_crop = parse_int(text, "--padding-mask-crop");
            });
  add_choice(
      command, "--preserve", {"none", "exact", "blend"},
      "Bring back every pixel that is not painted anew; blend hides the seam [blend with --expand]",
      [&o](std::size_t i) {
        o.inpaint.preserve = i == 0 ? Preserve::none : i == 1 ? Preserve::exact : Preserve::blend;
      });
  command.add_flag("--soft-mask", o.inpaint.canvas.soft,
                   "Take greys of the mask as they are instead of black or white");
  add_value(command, "--expand", "L,T,R,B",
            "Paint more of the picture: pixels to the left, top, right and bottom",
            [&o](const std::string& text) { o.inpaint.expand = parse_margins(text); });
}

int scaled_side(double scale, bool is_width, const GenerateRequest& request) {
  const auto* picture = picture_to_scale(request);
  if (picture == nullptr)
    throw Error(ErrorKind::usage, fmt::format("expected pixels or auto, got the scale {}x", scale),
                "A scale needs a picture to scale, and there is none.");
  const double side = scale * (is_width ? picture->width : picture->height);
  if (side < kPixelsPerToken || side > kMostPixels)
    throw Error(ErrorKind::usage, fmt::format("expected a scale that gives at least {} pixels and "
                                              "at most {}, got {:.0f} by {}x",
                                              kPixelsPerToken, kMostPixels, side, scale));
  return static_cast<int>(side) / kPixelsPerToken * kPixelsPerToken;
}

}  // namespace klein::cli
