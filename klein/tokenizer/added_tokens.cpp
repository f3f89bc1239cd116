#include "klein/tokenizer/added_tokens.h"

#include <algorithm>

#include <fmt/format.h>

#include "klein/io/text.h"

namespace klein::tokenizer {
namespace {

using nlohmann::json;

class EntryReader {
 public:
  EntryReader(const TokenizerFile& file, const json& entry, std::size_t index)
      : file_(file), entry_(entry), index_(index) {}

  AddedToken read() const {
    const json& content = member(entry_, "content");
    if (!content.is_string() || content == "") fail("content", "a text", content);
    const json& id = member(entry_, "id");
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > Vocabulary::kMaxId)
      fail("id", fmt::format("a number of 0 to {}", Vocabulary::kMaxId), id);

    for (const char* const key : {"lstrip", "rstrip", "single_word"})
      if (flag(key))
        file_.fail(ErrorKind::unsupported,
                   fmt::format("expected `{}` to be false for the added token {}, got true", key,
                               io::describe(content)));
    return {content.get<std::string>(), id.get<int>(), flag("normalized")};
  }

 private:
  bool flag(const char* key) const {
    const json& value = member(entry_, key);
    if (!value.is_null() && !value.is_boolean()) fail(key, "true or false", value);
    return value == true;
  }

  [[noreturn]] void fail(const char* key, std::string_view expected, const json& got) const {
    file_.fail(ErrorKind::format, fmt::format("expected `added_tokens[{}].{}` to be {}, got {}",
                                              index_, key, expected, io::describe(got)));
  }

  const TokenizerFile& file_;
  const json& entry_;
  std::size_t index_;
};

void expect_no_conflict(const TokenizerFile& file, const AddedToken& token, Vocabulary& seen) {
  const auto id_in_model = file.vocabulary.find(token.content);
  const auto text_in_model = file.vocabulary.text(token.id);
  if (id_in_model && *id_in_model != token.id)
    file.fail(ErrorKind::format, fmt::format("expected one id for the token {}, got {} and {}",
                                             io::in_quotes(token.content), *id_in_model, token.id));
  if (text_in_model && *text_in_model != token.content)
    file.fail(ErrorKind::format,
              fmt::format("expected one token per id, got {} and {} for {}",
                          io::in_quotes(*text_in_model), io::in_quotes(token.content), token.id));

  const auto outcome = seen.add(token.content, token.id);
  if (outcome != Vocabulary::Outcome::added)
    file.fail(ErrorKind::format,
              fmt::format("expected each added token and its id once, got {} with id {} again",
                          io::in_quotes(token.content), token.id));
}

}  // namespace

std::vector<AddedToken> read_added_tokens(const TokenizerFile& file) {
  const json& entries = member(file.document, "added_tokens");
  std::vector<AddedToken> tokens;
  if (entries.is_null()) return tokens;
  if (!entries.is_array())
    file.fail(ErrorKind::format,
              fmt::format("expected `added_tokens` to be an array, got {}", io::describe(entries)));

  // Tokenizers numbers added tokens itself: a file that says something else would mean different
  // ids to different readers.
  int next_id = static_cast<int>(file.vocabulary.count());
  Vocabulary seen;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const AddedToken token = EntryReader(file, entries[i], i).read();
    expect_no_conflict(file, token, seen);
    if (!file.vocabulary.find(token.content) && token.id != next_id)
      file.fail(ErrorKind::format, fmt::format("expected id {} for the added token {}, got {}",
                                               next_id, io::in_quotes(token.content), token.id));
    next_id = std::max(next_id, token.id + 1);
    tokens.push_back(token);
  }
  return tokens;
}

void LiteralFinder::add(std::string_view literal, int id) {
  std::uint32_t node = 0;
  for (const char byte : literal) {
    const std::uint64_t edge = (std::uint64_t{node} << 8) | static_cast<unsigned char>(byte);
    const auto [found, is_new] = next_node_.try_emplace(edge, nodes_.size());
    if (is_new) nodes_.emplace_back();
    node = found->second;
  }
  nodes_[node].id = id;
}

std::optional<std::uint32_t> LiteralFinder::next(std::uint32_t node, char byte) const {
  const auto found = next_node_.find((std::uint64_t{node} << 8) | static_cast<unsigned char>(byte));
  if (found == next_node_.end()) return std::nullopt;
  return found->second;
}

Piece LiteralFinder::longest_at(std::string_view text) const {
  Piece longest;
  std::optional<std::uint32_t> node = 0;
  for (std::size_t i = 0; i < text.size() && (node = next(*node, text[i])); ++i)
    if (nodes_[*node].id) longest = {text.substr(0, i + 1), nodes_[*node].id};
  return longest;
}

std::vector<Piece> LiteralFinder::split(std::string_view text) const {
  std::vector<Piece> pieces;
  std::size_t done = 0;
  const auto add_text_before = [&](std::size_t end) {
    if (end > done) pieces.push_back({text.substr(done, end - done), std::nullopt});
  };
  for (std::size_t at = 0; !empty() && at < text.size();) {
    const Piece token = longest_at(text.substr(at));
    if (!token.id) {
      ++at;
      continue;
    }
    add_text_before(at);
    pieces.push_back(token);
    at += token.text.size();
    done = at;
  }
  add_text_before(text.size());
  return pieces;
}

}  // namespace klein::tokenizer
