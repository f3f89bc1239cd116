#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "klein/cli/child_process.h"
#include "klein/engine/engine.h"
#include "klein/io/json.h"

namespace klein::cli {

/// What is compared, by the names that the script uses.
inline constexpr const char* kComparedParts[] = {"text", "step", "decode", "picture"};

/// How diffusers did beside klein.
struct Comparison {
  using Times = std::map<std::string, RunTimes>;  ///< By kComparedParts.

  std::string program;    ///< "diffusers 0.42.1, transformers 5.23.0, torch 2.15.0".
  std::string device;     ///< "cuda" or "cpu".
  Times eager, compiled;  ///< The latter is empty where nothing was compiled.
  double latents_cosine = 0.0, latents_error = 0.0;  ///< Of klein's final latents to diffusers'.
  std::optional<double> picture_psnr;                ///< In dB; unset where the pictures are equal.
};

/// diffusers at work on the pictures that klein is timed with, in turns.
class CompareDiffusers {
 public:
  struct Options {
    std::string python = "python3";
    std::optional<std::string> compile;  ///< torch.compile's mode.
    int runs = 3;
    std::string prompt;
    Precision precision = Precision::bfloat16;
  };

  /// `say` tells the person what goes on. Errors   Error(io) when there is no room for files
  CompareDiffusers(Options options, std::function<bool()> stop_requested,
                   std::function<void(const std::string&)> say);
  CompareDiffusers(const CompareDiffusers&) = delete;
  CompareDiffusers& operator=(const CompareDiffusers&) = delete;
  ~CompareDiffusers();

  /// Has klein's measurement call back after every picture.
  ///
  /// Errors   Error(not_found) for a Python that lacks diffusers; Error(usage) for a model that
  ///          diffusers cannot read
  void join(BenchRequest& request, const ModelInfo& info);

  Comparison result() const;

 private:
  void expect_diffusers();
  nlohmann::json expect_answer(const std::optional<std::string>& line) const;
  void after_run(int run, const GenerateResult& picture, const ModelInfo& info);
  void start(const GenerateResult& picture, const ModelInfo& info);
  void draw(const char* way, const std::string& prompt, bool counts);
  std::string log_end() const;

  Options options_;
  std::function<bool()> stop_requested_;
  std::function<void(const std::string&)> say_;
  std::filesystem::path folder_;
  std::optional<ChildProcess> child_;
  std::map<std::string, std::map<std::string, std::vector<double>>> secs_;  ///< By way and part.
  Comparison comparison_;
};

}  // namespace klein::cli
