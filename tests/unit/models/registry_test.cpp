#include "klein/models/flux2/registry.h"

#include <doctest/doctest.h>

namespace klein::flux2 {
namespace {

std::string_view key_of(const RegistryEntry* entry) {
  return entry == nullptr ? "none" : entry->key;
}

TEST_SUITE("models/registry") {
  TEST_CASE("every name of mflux finds its model, in any case") {
    // mflux, model_config.py
    for (const char* name :
         {"flux2-klein-4b", "flux2-klein-4B", "flux2-klein", "klein-4b", "klein-4B",
          "black-forest-labs/FLUX.2-klein-4B", "Black-Forest-Labs/flux.2-KLEIN-4b"})
      CHECK(key_of(find_entry(name)) == "flux2-klein-4b");
    for (const char* name : {"flux2-klein-9b", "flux2-klein-9B", "klein-9b", "klein-9B",
                             "black-forest-labs/FLUX.2-klein-9B"})
      CHECK(key_of(find_entry(name)) == "flux2-klein-9b");
    for (const char* name : {"flux2-klein-9b-kv", "flux2-klein-9B-kv", "flux2-klein-9b-KV",
                             "klein-9b-kv", "klein-9B-kv", "black-forest-labs/FLUX.2-klein-9b-kv"})
      CHECK(key_of(find_entry(name)) == "flux2-klein-9b-kv");
    for (const char* name :
         {"flux2-klein-base-4b", "flux2-klein-base-4B", "flux2-base-4b", "flux2-base-4B",
          "klein-base-4b", "klein-base-4B", "black-forest-labs/FLUX.2-klein-base-4B"})
      CHECK(key_of(find_entry(name)) == "flux2-klein-base-4b");
    for (const char* name :
         {"flux2-klein-base-9b", "flux2-klein-base-9B", "flux2-base-9b", "flux2-base-9B",
          "klein-base-9b", "klein-base-9B", "black-forest-labs/FLUX.2-klein-base-9B"})
      CHECK(key_of(find_entry(name)) == "flux2-klein-base-9b");
  }

  TEST_CASE("a part of a name is not a name") {
    for (const char* name : {"", "klein", "4b", "demo", "my-klein-4b", "klein-4b/", "dev"}) {
      CAPTURE(name);
      CHECK(find_entry(name) == nullptr);
    }
  }

  TEST_CASE("steps and guidance are diffusers' defaults for the variant") {
    CHECK(find_entry("klein-4b")->variant == Variant::distilled);
    CHECK(find_entry("klein-base-9b")->variant == Variant::base);
    CHECK(find_entry("klein-9b-kv")->variant == Variant::kv);
    CHECK(defaults_of(Variant::distilled).steps == 4);
    CHECK(defaults_of(Variant::distilled).guidance == 1.0);
    CHECK(defaults_of(Variant::base).steps == 50);
    CHECK(defaults_of(Variant::base).guidance == 4.0);
    CHECK(defaults_of(Variant::kv).steps == 4);
    CHECK(defaults_of(Variant::kv).guidance == 1.0);
  }

  TEST_CASE("the name of a file tells its variant by whole words") {
    CHECK(variant_of_file_name("flux-2-klein-4b.safetensors") == Variant::distilled);
    CHECK(variant_of_file_name("flux-2-klein-base-4b-fp8.safetensors") == Variant::base);
    CHECK(variant_of_file_name("FLUX.2-klein-base-9B_Q4_K_S.gguf") == Variant::base);
    CHECK(variant_of_file_name("flux-2-klein-9b-kv-fp8.safetensors") == Variant::kv);
    CHECK(variant_of_file_name("flux2_klein_database_4b.gguf") == Variant::distilled);
    CHECK_FALSE(variant_of_file_name("base-4b.safetensors").has_value());
    CHECK_FALSE(variant_of_file_name("kleinbase.safetensors").has_value());
    CHECK_FALSE(variant_of_file_name("").has_value());
  }

  TEST_CASE("the name of a file may tell the whole entry") {
    CHECK(key_of(entry_of_file_name("flux-2-klein-4b-nvfp4.safetensors")) == "flux2-klein-4b");
    CHECK(key_of(entry_of_file_name("flux-2-klein-base-9b.gguf")) == "flux2-klein-base-9b");
    CHECK(key_of(entry_of_file_name("flux-2-klein-9b-kv.safetensors")) == "flux2-klein-9b-kv");
    CHECK(key_of(entry_of_file_name("flux-2-klein-4b-kv.safetensors")) == "none");
    CHECK(key_of(entry_of_file_name("flux-2-klein.safetensors")) == "none");
  }

  TEST_CASE("a mistyped name is near to what was meant") {
    using Names = std::vector<std::string>;
    CHECK(near_names("klien-base-4b").front() == "klein-base-4b");
    CHECK(near_names("9b-kv") == Names{"klein-9b-kv", "flux2-klein-9b-kv"});
    CHECK(near_names("dmo") == Names{"demo"});
    CHECK(near_names("Demo-bas") == Names{"demo-base"});
    CHECK(near_names("demokv") == Names{"demo-kv"});
    CHECK(near_names("stable-diffusion").empty());
    CHECK(near_names("").empty());
    CHECK(near_names(std::string(100'000, 'k')).empty());
  }
}

}  // namespace
}  // namespace klein::flux2
