#pragma once

#include <optional>
#include <ostream>
#include <string>

#include "klein/cli/compare_diffusers.h"
#include "klein/engine/engine.h"

namespace klein::cli {

/// What `klein bench` measured, and of what.
struct BenchSubject {
  std::string model;
  std::string device;
  Precision precision = Precision::bfloat16;
  MathMode math = MathMode::fast;
  int runs = 0;
};

void print_bench(const BenchReport& report, const std::optional<Comparison>& comparison,
                 const BenchSubject& subject, std::ostream& out);

/// One JSON object.
std::string bench_json(const BenchReport& report, const std::optional<Comparison>& comparison,
                       const BenchSubject& subject);

}  // namespace klein::cli
