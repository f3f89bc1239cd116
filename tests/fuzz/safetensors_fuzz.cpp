#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/io/safetensors.h"

void klein::fuzz::safetensors(std::string_view input) {
  static const Folder folder;
  const auto file = io::SafetensorsFile::open(folder.write("x.safetensors", input));
  std::uint64_t end = 0;
  for (const auto& tensor : file.tensors()) {
    expect(file.find(tensor.name) == &tensor, "every tensor is found by its name");
    expect(tensor.begin >= end && tensor.end <= input.size(), "tensors lie apart in the file");
    end = tensor.end;
    touch(file.bytes(tensor));
  }
  expect(file.tensors().empty() || end == input.size(), "tensors cover the data");
}
