#include <variant>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/io/gguf.h"

void klein::fuzz::gguf(std::string_view input) {
  static const Folder folder;
  const auto path = folder.write("x.gguf", input);
  const auto file = io::GgufFile::open(path);
  std::uint64_t end = 0;
  for (const auto& tensor : file.tensors()) {
    expect(file.find(tensor.name) == &tensor, "every tensor is found by its name");
    expect(tensor.bytes() == 0 || (tensor.begin >= end && tensor.end <= input.size()),
           "tensors lie apart in the file");
    end = tensor.end;
    touch(file.bytes(tensor));
  }
  for (const auto& [key, value] : file.metadata()) {
    if (const auto* list = std::get_if<io::GgufArray>(&value)) touch(list->bytes);
    if (const auto text = file.text(key)) touch(io::as_bytes(*text));
  }
  const auto weights = weights::WeightFiles::open(path);
  check_stored(weights);
  find_networks(weights.shapes());
}
