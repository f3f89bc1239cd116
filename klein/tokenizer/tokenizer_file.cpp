#include "klein/tokenizer/tokenizer_file.h"

#include <fmt/format.h>

#include "klein/io/file.h"
#include "klein/io/text.h"
#include "klein/tokenizer/json_cursor.h"

namespace klein::tokenizer {
namespace {

using nlohmann::json;

/// Goes over the file once: `model.vocab` and `model.merges` into flat tables, the rest, which is
/// small, into a document.
class Reader {
 public:
  Reader(std::string_view text, TokenizerFile& file) : cursor_(text, file.path), file_(file) {}

  void read() {
    file_.document = json::object();
    if (!cursor_.take('{')) fail_type("a JSON object", cursor_value());
    for (bool is_first = true; cursor_.next_element('}', is_first); is_first = false) {
      const std::string key(cursor_.key());
      json& value = new_member(file_.document, key);
      if (key == "model" && cursor_.take('{'))
        read_model(value);
      else
        value = cursor_value();
    }
    cursor_.expect_end();
  }

 private:
  void read_model(json& model) {
    model = json::object();
    for (bool is_first = true; cursor_.next_element('}', is_first); is_first = false) {
      const std::string key(cursor_.key());
      json& value = new_member(model, key);
      if (key == "vocab")
        read_vocabulary();
      else if (key == "merges")
        read_merges();
      else
        value = cursor_value();
    }
    for (const char* const key : {"vocab", "merges"})
      if (!model.contains(key)) fail(fmt::format("expected `model.{}`, got none", key));
  }

  void read_vocabulary() {
    if (!cursor_.take('{')) fail_type("`model.vocab` to be an object", cursor_value());
    for (bool is_first = true; cursor_.next_element('}', is_first); is_first = false) {
      const std::string_view token = cursor_.key();
      const auto id = cursor_.whole_number();
      if (!id)
        fail(fmt::format("expected a whole number as the id of the token {}, got {}",
                         io::in_quotes(token), io::describe(cursor_value())));
      add_token(token, *id);
    }
  }

  void add_token(std::string_view token, std::int64_t id) {
    using Outcome = Vocabulary::Outcome;
    switch (file_.vocabulary.add(token, id)) {
      case Outcome::added:
        return;
      case Outcome::id_out_of_range:
        fail(fmt::format("expected ids of 0 to {}, got {} for the token {}", Vocabulary::kMaxId, id,
                         io::in_quotes(token)));
      case Outcome::same_text:
        fail(fmt::format("expected each token once, got {} twice", io::in_quotes(token)));
      case Outcome::same_id:
        fail(fmt::format("expected one token per id, got {} and {} for {}",
                         io::in_quotes(*file_.vocabulary.text(static_cast<int>(id))),
                         io::in_quotes(token), id));
    }
  }

  void read_merges() {
    if (!cursor_.take('[')) fail_type("`model.merges` to be an array", cursor_value());
    for (bool is_first = true; cursor_.next_element(']', is_first); is_first = false) {
      const std::size_t rank = file_.merges.size();
      if (cursor_.take('['))
        read_pair(rank);
      else if (cursor_.peek() == '"')
        add_spaced_merge(cursor_.string(), rank);
      else
        fail_merge(rank);
    }
  }

  void read_pair(std::size_t rank) {
    for (int part = 0; part < 2; ++part) {
      if (part == 1 && !cursor_.take(',')) fail_merge(rank);
      if (cursor_.peek() != '"') fail_merge(rank);
      file_.merges.add_part(cursor_.string());
    }
    if (!cursor_.take(']')) fail_merge(rank);
  }

  void add_spaced_merge(std::string_view rule, std::size_t rank) {
    const std::size_t space = rule.find(' ');
    if (space == std::string_view::npos || rule.find(' ', space + 1) != std::string_view::npos)
      fail_merge(rank);
    file_.merges.add_part(rule.substr(0, space));
    file_.merges.add_part(rule.substr(space + 1));
  }

  json& new_member(json& object, const std::string& key) {
    if (object.contains(key))
      fail(fmt::format("expected each key once, got {} twice", io::in_quotes(key)));
    return object[key];
  }

  json cursor_value() {
    const std::string_view raw = cursor_.raw_value();
    return io::parse_json(raw, fmt::format("the value that ends at byte {} of {}",
                                           cursor_.position(), file_.path.string()));
  }

  [[noreturn]] void fail(const std::string& complaint) const {
    file_.fail(ErrorKind::format, complaint);
  }
  [[noreturn]] void fail_type(std::string_view expected, const json& got) const {
    fail(fmt::format("expected {}, got {}", expected, io::describe(got)));
  }
  [[noreturn]] void fail_merge(std::size_t rank) const {
    fail(fmt::format("expected merge {} to be \"a b\" or [\"a\", \"b\"]", rank));
  }

  JsonCursor cursor_;
  TokenizerFile& file_;
};

}  // namespace

void TokenizerFile::fail(ErrorKind kind, const std::string& complaint) const {
  throw Error(kind, fmt::format("{}: {}", complaint, path.string()));
}

TokenizerFile read_tokenizer_file(const std::filesystem::path& path) {
  const std::string text = io::read_text(path);
  TokenizerFile file;
  file.path = path;
  Reader(text, file).read();
  const json& model = member(file.document, "model");
  if (!model.is_object())
    file.fail(ErrorKind::format,
              fmt::format("expected `model` to be an object, got {}", io::describe(model)));
  return file;
}

const json& member(const json& object, const char* key) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(key);
  return found == object.end() ? none : *found;
}

}  // namespace klein::tokenizer
