#include "klein/cli/compare_diffusers.h"

#include <algorithm>
#include <fstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <unistd.h>

#include "klein/core/error.h"
#include "klein/engine/data_folders.h"
#include "klein/io/file.h"
#include "klein/io/image.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

[[noreturn]] void refuse_answer(const std::string& line) {
  throw Error(ErrorKind::format, fmt::format("expected an answer of {} in JSON, got {}",
                                             "compare_diffusers.py", io::in_quotes(line)));
}

double number(const Json& answer, const std::string& key, const std::string& line) {
  const auto it = answer.find(key);
  if (it == answer.end() || !it->is_number()) refuse_answer(line);
  return it->get<double>();
}

std::string text(const Json& answer, const std::string& key) {
  const auto it = answer.find(key);
  return it != answer.end() && it->is_string() ? it->get<std::string>() : std::string();
}

fs::path make_folder() {
  auto name = (fs::temp_directory_path() / "klein-bench-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(ErrorKind::io, fmt::format("cannot make a folder for files: {}", name));
  return name;
}

Comparison::Times times_of(const std::map<std::string, std::vector<double>>& secs) {
  Comparison::Times times;
  for (const auto& [part, all] : secs) times[part] = RunTimes::of(all);
  return times;
}

}  // namespace

CompareDiffusers::CompareDiffusers(Options options, std::function<bool()> stop_requested,
                                   std::function<void(const std::string&)> say)
    : options_(std::move(options)),
      stop_requested_(std::move(stop_requested)),
      say_(std::move(say)),
      folder_(make_folder()) {}

CompareDiffusers::~CompareDiffusers() {
  child_.reset();
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

void CompareDiffusers::join(BenchRequest& request, const ModelInfo& info) {
  std::error_code error;
  if (!fs::exists(info.folder / "model_index.json", error))
    throw Error(ErrorKind::usage,
                fmt::format("expected a model in diffusers' layout to compare with, got: {}",
                            info.folder.string()),
                "klein save writes one.");
  expect_diffusers();
  request.runs = options_.compile ? 2 * options_.runs : options_.runs;
  request.measure_floor = true;
  request.save_noise = folder_ / "noise.safetensors";
  request.picture.save_latents = {folder_ / "latents.safetensors"};
  request.after_run = [this, info](int run, const GenerateResult& picture) {
    after_run(run, picture, info);
  };
}

/// Before klein begins: a wrong Python should not be found out minutes later.
void CompareDiffusers::expect_diffusers() {
  ChildProcess check({options_.python, find_compare_script().string(), "--check"},
                     folder_ / "log.txt");
  expect_answer(check.receive(stop_requested_));
}

/// The answer of a Python that has diffusers.
Json CompareDiffusers::expect_answer(const std::optional<std::string>& line) const {
  auto answer = Json::parse(line.value_or(""), nullptr, false);
  if (answer.is_object() && answer.contains("error"))
    throw Error(ErrorKind::not_found, text(answer, "error"), text(answer, "hint"));
  if (!line)
    throw Error(ErrorKind::io, fmt::format("cannot run diffusers by {}: {}", options_.python,
                                           io::in_quotes(log_end())));
  if (!answer.is_object()) refuse_answer(*line);
  return answer;
}

void CompareDiffusers::after_run(int run, const GenerateResult& picture, const ModelInfo& info) {
  if (run == 0) {
    start(picture, info);
    say_("diffusers: first picture");
    draw("eager", options_.prompt, false);
    return;
  }
  const bool is_eager = run <= options_.runs;
  say_(fmt::format("diffusers{}: picture {} of {}", is_eager ? "" : " compiled",
                   is_eager ? run : run - options_.runs, options_.runs));
  draw(is_eager ? "eager" : "compiled", fmt::format("{}, {}", options_.prompt, run), true);
  if (run != options_.runs || !options_.compile) return;
  say_("diffusers: compiling");
  draw("compiled", options_.prompt, false);
}

void CompareDiffusers::start(const GenerateResult& picture, const ModelInfo& info) {
  const auto png = folder_ / "picture.png";
  io::write_atomically(png, io::encode(picture.images.front(), io::ImageFormat::png));
  std::vector<std::string> words{options_.python, find_compare_script().string()};
  const auto add = [&](const char* flag, const auto& value) {
    words.insert(words.end(), {flag, fmt::format("{}", value)});
  };
  add("--model", info.folder.string());
  add("--device", info.device == "gpu" ? "cuda" : "cpu");
  add("--dtype", options_.precision == Precision::float32 ? "float32" : "bfloat16");
  add("--width", picture.width);
  add("--height", picture.height);
  add("--steps", picture.steps);
  if (!info.is_distilled) add("--guidance", picture.guidance);
  if (options_.compile) add("--compile", *options_.compile);
  add("--noise", (folder_ / "noise.safetensors").string());
  add("--latents", (folder_ / "latents.safetensors").string());
  add("--picture", png.string());
  say_("diffusers: loading");
  child_.emplace(words, folder_ / "log.txt");
  const auto line = child_->receive(stop_requested_);
  const auto answer = expect_answer(line);
  if (text(answer, "program").empty()) refuse_answer(*line);
  comparison_.program = text(answer, "program");
  comparison_.device = text(answer, "device");
}

void CompareDiffusers::draw(const char* way, const std::string& prompt, bool counts) {
  child_->send(
      Json{{"run", way}, {"prompt", prompt}}.dump(-1, ' ', false, Json::error_handler_t::replace));
  const auto line = child_->receive(stop_requested_);
  if (!line)
    throw Error(ErrorKind::io, fmt::format("expected diffusers to draw a picture, but it ended: {}",
                                           io::in_quotes(log_end())));
  const auto answer = Json::parse(*line, nullptr, false);
  if (!answer.is_object()) refuse_answer(*line);
  if (counts) {
    for (const char* part : kComparedParts) secs_[way][part].push_back(number(answer, part, *line));
  } else if (std::string_view(way) == "eager") {
    comparison_.latents_cosine = number(answer, "latents_cosine", *line);
    comparison_.latents_error = number(answer, "latents_error", *line);
    if (!answer.value("picture_psnr", Json()).is_null())
      comparison_.picture_psnr = number(answer, "picture_psnr", *line);
  }
}

/// The last line of what the script had to say.
std::string CompareDiffusers::log_end() const {
  std::ifstream log(folder_ / "log.txt");
  std::string line, last;
  while (std::getline(log, line))
    if (!line.empty()) last = line;
  return last;
}

Comparison CompareDiffusers::result() const {
  auto comparison = comparison_;
  comparison.eager = times_of(secs_.at("eager"));
  if (options_.compile) comparison.compiled = times_of(secs_.at("compiled"));
  return comparison;
}

}  // namespace klein::cli
