#include "klein/engine/open_model.h"

#include <new>
#include <string>
#include <string_view>

#include "klein/tensor/device.h"

namespace klein {
namespace {

/// MLX reports a failed allocation as a runtime error whose text says so.
bool is_out_of_memory(const std::exception& e) {
  const std::string_view text = e.what();
  return dynamic_cast<const std::bad_alloc*>(&e) != nullptr ||
         text.find("Unable to allocate") != std::string_view::npos ||
         text.find("out of memory") != std::string_view::npos ||
         text.find("Attempting to allocate") != std::string_view::npos;
}

}  // namespace

Error error_from(const std::exception& e) {
  if (is_out_of_memory(e))
    return {ErrorKind::memory, std::string("not enough memory: ") + e.what(),
            "Ask for a smaller picture."};
  return {ErrorKind::internal, e.what()};
}

flux2::ModelFiles model_files(const EngineOptions& options, const ModelLocation& location,
                              const FindOptions& find) {
  const auto replacement = [&](const std::optional<std::string>& name, const char* part) {
    return name ? std::optional(find_replacement(*name, part, find)) : std::nullopt;
  };
  return {.model = location.path,
          .transformer = replacement(options.transformer, "transformer"),
          .text_encoder = replacement(options.text_encoder, "text_encoder"),
          .vae = replacement(options.vae, "vae"),
          .tokenizer = replacement(options.tokenizer, "tokenizer"),
          .variant = location.variant,
          .variant_source = location.variant_source,
          .fetch = [location, find](const std::string& part) {
            return find_part(location, part, find);
          }};
}

flux2::LoadOptions load_options(const EngineOptions& options) {
  return {.dtype = mlx_dtype(options.precision),
          .fp8_blocks = options.math == MathMode::fp8,
          .quantize_transformer = options.quantize_transformer,
          .quantize_text_encoder = options.quantize_text_encoder,
          .quantize_vae = options.quantize_vae};
}

}  // namespace klein
