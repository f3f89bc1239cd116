#include "klein/cli/bench_report.h"

#include <algorithm>
#include <map>
#include <vector>

#include <fmt/format.h>

#include "klein/cli/lora_report.h"
#include "klein/io/json.h"
#include "klein/io/text.h"

namespace klein::cli {
namespace {

constexpr double kTera = 1e12;

/// Seconds and speed of one part of a picture.
struct Part {
  const char* name;
  double first;
  RunTimes warm;
  double flops;  ///< 0 where nothing is computed.
  double secs;   ///< That the speed is taken from.

  double flops_per_sec() const { return secs > 0.0 ? flops / secs : 0.0; }
};

double total_of(const std::map<Stage, double>& seconds) {
  double total = 0.0;
  for (const auto& [stage, secs] : seconds) total += secs;
  return total;
}

std::vector<Part> parts_of(const BenchReport& r) {
  const auto& first = r.first.seconds;
  const double step = std::ranges::min(r.first.step_seconds);
  return {{"text", first.at(Stage::encode_text), r.text, r.text_flops, r.text.median},
          {"denoise", first.at(Stage::denoise), r.denoise, r.step_flops * r.first.steps,
           r.denoise.median},
          {"step", step, r.step, r.step_flops, r.step.median},
          {"decode", first.at(Stage::decode), r.decode, r.decode_flops, r.decode.median}};
}

/// The same parts as the comparison has.
std::map<std::string, RunTimes> compared_parts(const BenchReport& r) {
  return {{"text", r.text}, {"step", r.step}, {"decode", r.decode}, {"picture", r.picture}};
}

double share_of_gemm(const BenchReport& report) {
  return report.step_flops / report.step.median / report.gemm_flops_per_sec;
}

double share_of_floor(const BenchReport& report) {
  return report.floor_seconds / report.step.median;
}

/// How often klein is as fast as the faster of diffusers' ways.
double ratio(const Comparison& comparison, const std::string& part, const RunTimes& ours) {
  double theirs = comparison.eager.at(part).median;
  if (!comparison.compiled.empty()) theirs = std::min(theirs, comparison.compiled.at(part).median);
  return theirs / ours.median;
}

const char* name_of_dtype(Precision precision) {
  return precision == Precision::float32 ? "float32" : "bfloat16";
}

const char* name_of_math(MathMode math) {
  return math == MathMode::exact ? "exact" : math == MathMode::fast ? "fast" : "fp8";
}

/// Only a GPU has several.
std::string math_of(const BenchSubject& subject) {
  return subject.device == "cpu" ? "" : fmt::format(", {},", name_of_math(subject.math));
}

std::string header(const char* name, const std::vector<const char*>& columns) {
  auto line = fmt::format("{:<14}", name);
  for (const auto* column : columns) line += fmt::format(" {:>10}", column);
  return line + '\n';
}

void print_parts(const BenchReport& report, std::ostream& out) {
  out << header("seconds", {"first", "median", "best", "TFLOP/s"});
  const auto print = [&](const char* name, double first, const RunTimes& warm, double speed) {
    out << fmt::format("{:<14} {:>10.4f} {:>10.4f} {:>10.4f} {:>10}\n", name, first, warm.median,
                       warm.best, speed > 0.0 ? fmt::format("{:.3f}", speed / kTera) : "-");
  };
  out << fmt::format("{:<14} {:>10.4f} {:>10} {:>10} {:>10}\n", "load",
                     report.first.seconds.at(Stage::load), "-", "-", "-");
  for (const auto& part : parts_of(report))
    print(part.name, part.first, part.warm, part.flops_per_sec());
  print("picture", total_of(report.first.seconds), report.picture, 0.0);
  out << fmt::format("{:<14} {:>10} {:>10.4f} {:>10.4f} {:>10}\n", "cached prompt", "-",
                     report.cached_picture.median, report.cached_picture.best, "-");
  out << fmt::format("{:<14} {:>10} {:>10} {:>10} {:>10.3f}\n\n", "GEMM", "-", "-", "-",
                     report.gemm_flops_per_sec / kTera);
  out << fmt::format("a step reaches {:.0f} % of the speed of one matrix product\n",
                     100.0 * share_of_gemm(report));
  if (report.floor_seconds > 0.0)
    out << fmt::format(
        "its products and attention alone take {:.4f} s, {:.1f} % of the median step\n",
        report.floor_seconds, 100.0 * share_of_floor(report));
  out << fmt::format("peak memory {:.2f} GB\n",
                     static_cast<double>(report.peak_memory_bytes) / 1e9);
}

void print_batches(const BenchReport& report, std::ostream& out) {
  if (report.batches.empty()) return;
  out << '\n' << header("at once", {"median", "best", "pictures/s"});
  for (const auto& [pictures, seconds] : report.batches)
    out << fmt::format("{:<14} {:>10.4f} {:>10.4f} {:>10.3f}\n", pictures, seconds.median,
                       seconds.best, pictures / seconds.median);
}

/// What reference pictures cost beside a step without them.
void print_edit(const BenchReport& report, std::ostream& out) {
  const auto& edit = *report.edit;
  const auto line = [&](const char* name, double seconds) {
    out << fmt::format("{:<32} {:>10.3f} {:>9.2f}x\n", name, seconds, seconds / report.step.median);
  };
  out << fmt::format("\n{:<32} {:>10} {:>10}\n",
                     fmt::format("step with {} {}", edit.references,
                                 edit.references == 1 ? "reference" : "references"),
                     "seconds", "of none");
  line("read in every step", edit.step_seconds);
  line("kept, first step", edit.first_step_seconds);
  if (edit.kept_step_seconds > 0.0) line("kept, later steps", edit.kept_step_seconds);
}

void print_comparison(const BenchReport& report, const Comparison& comparison, std::ostream& out) {
  out << fmt::format("\n{} on {}, taking turns with klein; medians\n",
                     io::printable(comparison.program, 4000),
                     io::printable(comparison.device, 4000));
  out << header("seconds", {"klein", "eager", "compiled", "ratio"});
  const auto ours = compared_parts(report);
  for (const char* part : kComparedParts) {
    const auto& klein = ours.at(part);
    const auto compiled = comparison.compiled.empty()
                              ? std::string("-")
                              : fmt::format("{:.4f}", comparison.compiled.at(part).median);
    out << fmt::format("{:<14} {:>10.4f} {:>10.4f} {:>10} {:>9.2f}x\n", part, klein.median,
                       comparison.eager.at(part).median, compiled, ratio(comparison, part, klein));
  }
  out << fmt::format("\nfinal latents: cosine {:.6f}, relative error {:.2e}; picture: {}\n",
                     comparison.latents_cosine, comparison.latents_error,
                     comparison.picture_psnr
                         ? fmt::format("PSNR {:.1f} dB", *comparison.picture_psnr)
                         : std::string("equal"));
}

nlohmann::json json_of(const RunTimes& times) {
  return {{"median", times.median}, {"best", times.best}};
}

template <typename Times>
nlohmann::json json_of_parts(const Times& times) {
  nlohmann::json json;  // null where there are none
  for (const auto& [part, one] : times) json[part] = json_of(one);
  return json;
}

nlohmann::json json_of(const BenchReport& report, const Comparison& comparison) {
  nlohmann::json ratios;
  for (const auto& [part, times] : compared_parts(report))
    ratios[part] = ratio(comparison, part, times);
  nlohmann::json psnr;  // null where the pictures are equal
  if (comparison.picture_psnr) psnr = *comparison.picture_psnr;
  return {{"program", comparison.program},
          {"device", comparison.device},
          {"eager", json_of_parts(comparison.eager)},
          {"compiled", json_of_parts(comparison.compiled)},
          {"ratio", ratios},
          {"latents_cosine", comparison.latents_cosine},
          {"latents_error", comparison.latents_error},
          {"picture_psnr", psnr}};
}

nlohmann::json json_of(const std::optional<EditBench>& edit) {
  if (!edit) return {};
  return {{"references", edit->references},
          {"step_seconds", edit->step_seconds},
          {"kept_first_step_seconds", edit->first_step_seconds},
          {"kept_step_seconds", edit->kept_step_seconds}};
}

/// What a picture took at first, and warm: by the stages' names, with the whole as `total`.
nlohmann::json first_seconds(const BenchReport& report) {
  nlohmann::json seconds;
  for (const auto& [stage, secs] : report.first.seconds) seconds[name_of(stage)] = secs;
  seconds["total"] = total_of(report.first.seconds);
  return seconds;
}

nlohmann::json warm_seconds(const BenchReport& report) {
  return {{name_of(Stage::load), report.first.seconds.at(Stage::load)},
          {name_of(Stage::encode_text), report.text.median},
          {name_of(Stage::denoise), report.denoise.median},
          {name_of(Stage::decode), report.decode.median},
          {"total", report.picture.median}};
}

}  // namespace

void print_bench(const BenchReport& report, const std::optional<Comparison>& comparison,
                 const BenchSubject& subject, std::ostream& out) {
  const auto& picture = report.first;
  out << fmt::format("{}: {} x {}, {} steps, guidance {}, {}{} on {}; {} warm {}\n\n",
                     io::printable(subject.model, 4000), picture.width, picture.height,
                     picture.steps, picture.guidance, name_of_dtype(subject.precision),
                     math_of(subject), subject.device, subject.runs,
                     subject.runs == 1 ? "run" : "runs");
  print_parts(report, out);
  print_batches(report, out);
  if (report.edit) print_edit(report, out);
  if (comparison) print_comparison(report, *comparison, out);
}

std::string bench_json(const BenchReport& report, const std::optional<Comparison>& comparison,
                       const BenchSubject& subject) {
  const auto& picture = report.first;
  nlohmann::json speeds;
  for (const auto& part : parts_of(report)) speeds[part.name] = part.flops_per_sec() / kTera;
  speeds["gemm"] = report.gemm_flops_per_sec / kTera;
  auto warm = json_of_parts(compared_parts(report));
  warm["denoise"] = json_of(report.denoise);
  warm["picture_cached_prompt"] = json_of(report.cached_picture);
  auto batches = nlohmann::json::array();
  for (const auto& [pictures, seconds] : report.batches)
    batches.push_back({{"pictures", pictures},
                       {"seconds", json_of(seconds)},
                       {"pictures_per_second", pictures / seconds.median}});
  nlohmann::json json{
      {"edit", json_of(report.edit)},
      {"model", subject.model},
      {"device", subject.device},
      {"dtype", name_of_dtype(subject.precision)},
      {"precision", subject.device == "cpu" ? nlohmann::json()  // it has one way only
                                            : nlohmann::json(name_of_math(subject.math))},
      {"width", picture.width},
      {"height", picture.height},
      {"steps", picture.steps},
      {"guidance", picture.guidance},
      {"runs", subject.runs},
      {"first", first_seconds(report)},
      {"seconds", warm_seconds(report)},
      {"warm", warm},
      {"batches", batches},
      {"step_seconds", report.step_seconds},
      {"best_step_seconds", report.step.best},
      {"tflops_per_second", speeds},
      {"step_share_of_gemm", share_of_gemm(report)},
      {"peak_memory_bytes", report.peak_memory_bytes},
      {"loras", lora_report(picture.loras)},
      {"warnings", picture.warnings},
      {"diffusers", nullptr}};
  if (comparison) json["diffusers"] = json_of(report, *comparison);
  if (report.floor_seconds > 0.0) {
    json["floor_seconds"] = report.floor_seconds;
    json["floor_share_of_step"] = share_of_floor(report);
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace klein::cli
