#include "klein/engine/list_loras.h"

#include <array>
#include <system_error>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"
#include "klein/engine/device_thread.h"
#include "klein/engine/find_lora.h"
#include "klein/engine/open_model.h"
#include "klein/models/flux2/lora.h"
#include "klein/weights/lora.h"

namespace klein {
namespace {

constexpr std::array kKinds = {"LoRA", "LoHa", "LoKr"};  // in the order of weights::LoraMatrix

void read_header(ListedLora& lora) {
  const auto file = weights::read_lora_header(lora.file);
  lora.layers = static_cast<std::int64_t>(file.layers.size());
  for (const auto& [name, layer] : file.layers) {
    lora.kind = kKinds.at(layer.matrix.index());
    if (layer.rank != 0) lora.ranks.insert(layer.rank);
  }
  lora.models = flux2::models_of(file);
}

void expect_folders(const std::vector<std::string>& folders) {
  std::error_code error;
  for (const auto& folder : folders)
    if (std::filesystem::is_directory(folder, error)) return;
  throw Error(
      ErrorKind::not_found,
      folders.empty()
          ? std::string("expected folders of LoRAs in LORA_LIBRARY_PATH, found none")
          : fmt::format("expected folders of LoRAs, found none: {}", fmt::join(folders, ", ")),
      "Name them with --paths, or in LORA_LIBRARY_PATH with colons between them.");
}

ListedLora listed(const std::string& name, const std::filesystem::path& file) {
  ListedLora lora{.name = name, .file = file, .kind = {}, .ranks = {}};
  std::error_code error;
  const auto bytes = std::filesystem::file_size(file, error);
  if (!error) lora.bytes = bytes;
  try {
    read_header(lora);
  } catch (const Error& fault) {
    lora.fault = fault.what();
  }
  return lora;
}

}  // namespace

std::vector<ListedLora> list_loras(const std::vector<std::string>& folders) {
  expect_folders(folders);
  const auto library = lora_library(folders);
  DeviceThread thread;
  return thread.run([&] {
    return translated([&] {
      std::vector<ListedLora> loras;
      for (const auto& [name, file] : library) loras.push_back(listed(name, file));
      return loras;
    });
  });
}

}  // namespace klein
