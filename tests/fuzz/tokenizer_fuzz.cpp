#include <string>

#include "fuzz/support.h"
#include "fuzz/targets.h"
#include "klein/tokenizer/tokenizer.h"

void klein::fuzz::tokenizer(std::string_view input) {
  static const Folder folder;
  const auto tokenizer = tokenizer::Tokenizer::load(folder.write("tokenizer.json", input));
  const std::string repeated(200, 'a'), spaces(60, ' ');
  for (const std::string& prompt :
       {std::string("ab  a\nb 12\t's!"), std::string("caf\u00e9 e\u0301 \u732b <|x|>a"),
        repeated + spaces + '!'}) {
    const auto ids = tokenizer.encode(prompt);
    for (const int id : ids)
      expect(id >= 0 && id < tokenizer.vocabulary_size(), "ids are below the vocabulary's size");
    tokenizer.decode(ids);
  }
}
