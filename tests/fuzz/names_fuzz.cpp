// The input is a list of tensors, `name side side ...` on a line each.

#include <algorithm>
#include <charconv>
#include <string>

#include "fuzz/support.h"
#include "fuzz/targets.h"

void klein::fuzz::names(std::string_view input) {
  weights::Shapes shapes;
  const auto take = [](std::string_view& text, char end) {
    const auto at = std::min(text.find(end), text.size());
    const auto taken = text.substr(0, at);
    text.remove_prefix(std::min(at + 1, text.size()));
    return taken;
  };
  while (!input.empty()) {
    auto line = take(input, '\n');
    auto& shape = shapes[std::string(take(line, ' '))];
    for (shape.clear(); !line.empty();) {
      const auto word = take(line, ' ');
      std::int64_t side = 0;
      std::from_chars(word.data(), word.data() + word.size(), side);
      shape.push_back(std::max<std::int64_t>(side, 0));
    }
  }
  find_networks(shapes);
}
