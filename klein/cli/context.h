#pragma once

#include <functional>
#include <iosfwd>

#include "klein/engine/engine.h"

namespace klein::cli {

/// A model that a command loaded.
struct Model {
  ModelInfo info;
  std::function<GenerateResult(const GenerateRequest&, const ProgressCallback&)> generate;
  std::function<BenchReport(const BenchRequest&, const ProgressCallback&)> bench;
  std::function<SaveResult(const SaveRequest&, const ProgressCallback&)> save;
};

/// The world as a command sees it, so that tests can give it another one.
struct Context {
  std::istream& in;
  std::ostream& out;                      ///< Results.
  std::ostream& err;                      ///< Progress and warnings.
  std::function<int()> terminal_columns;  ///< Of `err`; 0 when it is no terminal.
  std::function<bool()> stop_requested;   ///< Whether the person pressed Ctrl-C.
  std::function<Model(const EngineOptions&, const ProgressCallback&)> load_model;
};

}  // namespace klein::cli
