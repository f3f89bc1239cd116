#include "klein/quant/target.h"

#include <array>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::quant {
namespace {

struct Named {
  std::string_view name;
  Target target;
};

constexpr std::array<Named, 9> kTargets = {{{"3", {Format::affine, 3}},
                                            {"4", {Format::affine, 4}},
                                            {"5", {Format::affine, 5}},
                                            {"6", {Format::affine, 6}},
                                            {"8", {Format::affine, 8}},
                                            {"fp8", {Format::fp8_e4m3, 8}},
                                            {"mxfp8", {Format::mxfp8, 8}},
                                            {"mxfp4", {Format::mxfp4, 4}},
                                            {"nvfp4", {Format::nvfp4, 4}}}};

}  // namespace

Target parse_target(std::string_view text) {
  for (const auto& [name, target] : kTargets)
    if (name == text) return target;
  throw Error(
      ErrorKind::usage,
      fmt::format("expected 3, 4, 5, 6 or 8 bits, or fp8, mxfp8, mxfp4 or nvfp4, got \"{}\"",
                  text));
}

std::string target_name(const Target& target) {
  for (const auto& [name, known] : kTargets)
    if (known.format == target.format &&
        (known.format != Format::affine || known.bits == target.bits))
      return std::string(name);
  return "unknown";
}

}  // namespace klein::quant
