#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace klein::flux2 {

/// What a checkpoint was trained for, which its tensors do not tell.
enum class Variant {
  distilled,  ///< Few steps, no guidance.
  base,       ///< Many steps, guidance.
  kv,         ///< Distilled, and keeps keys and values of reference pictures over the steps.
};

/// "distilled", "base", "kv".
std::string_view name_of(Variant variant);

/// Steps and guidance of a request that names none.
struct VariantDefaults {
  int steps = 4;
  double guidance = 1.0;
};
VariantDefaults defaults_of(Variant variant);

/// A published checkpoint with names that stand for it.
struct RegistryEntry {
  std::string_view key;
  std::string_view repo;  ///< On the Hugging Face hub.
  Variant variant;
  std::string_view short_name;                ///< The alias that people type.
  std::span<const std::string_view> aliases;  ///< All but the key, in lower case.
  std::string_view size;                      ///< Of the transformer: "4b", "9b".
  std::uint64_t download_bytes;               ///< About; of the files that are needed.
};

/// Names of the models that come with the program, the default one first.
std::span<const std::string_view> demo_names();

/// Source  mflux, model_config.py (names); diffusers, Flux2KleinPipeline (guidance)
std::span<const RegistryEntry> registry();

/// The entry of a key, an alias or a repository, in capital letters or small ones; else nullptr.
const RegistryEntry* find_entry(std::string_view name);

/// What the name of a file, without its folder, says: "flux-2-klein-base-4b-fp8.safetensors" is a
/// base model, "-9b-kv-" a kv one. Nothing unless the name holds the word "klein".
std::optional<Variant> variant_of_file_name(std::string_view name);

/// The entry that the name of a file speaks of, where it also names the size; else nullptr.
const RegistryEntry* entry_of_file_name(std::string_view name);

/// Keys and short names that a mistyped name may have meant, the nearest first.
std::vector<std::string> near_names(std::string_view name);

}  // namespace klein::flux2
