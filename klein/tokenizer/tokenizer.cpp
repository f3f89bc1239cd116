#include "klein/tokenizer/tokenizer.h"

#include <algorithm>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/io/text.h"
#include "klein/tokenizer/added_tokens.h"
#include "klein/tokenizer/bpe.h"
#include "klein/tokenizer/byte_alphabet.h"
#include "klein/tokenizer/pre_tokenizer.h"
#include "klein/tokenizer/tokenizer_file.h"
#include "klein/tokenizer/unicode.h"

namespace klein::tokenizer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Longer words hardly ever come twice.
constexpr std::size_t kLongestRememberedWord = 64;

fs::path find_tokenizer_json(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const fs::path& candidate : {path / "tokenizer.json", path / "tokenizer" / "tokenizer.json"})
    if (fs::exists(candidate, ignored)) return candidate;
  throw Error(ErrorKind::not_found,
              fmt::format("expected tokenizer.json or tokenizer/tokenizer.json: {}", path.string()),
              "Give a model folder in the diffusers layout, or the tokenizer.json itself");
}

std::optional<Nfc> read_normalizer(const TokenizerFile& file) {
  const json& normalizer = member(file.document, "normalizer");
  if (normalizer.is_null()) return std::nullopt;
  if (member(normalizer, "type") != "NFC")
    file.fail(ErrorKind::unsupported, fmt::format("expected `normalizer` NFC or none, got {}",
                                                  io::describe(member(normalizer, "type"))));
  return Nfc();
}

/// A ByteLevel post-processor moves offsets only; any other one adds tokens.
void expect_no_added_frame(const TokenizerFile& file) {
  const json& post_processor = member(file.document, "post_processor");
  if (!post_processor.is_null() && member(post_processor, "type") != "ByteLevel")
    file.fail(ErrorKind::unsupported,
              fmt::format("expected `post_processor` ByteLevel or none, got {}",
                          io::describe(member(post_processor, "type"))));
}

/// Words of one text that were encoded before, and where their ids are among those given out.
class WordMemory {
 public:
  /// Appends the ids of `word`, made by `encode` the first time.
  template <typename Encode>
  void append(std::string_view word, std::vector<int>& ids, Encode encode) {
    if (word.size() > kLongestRememberedWord) return encode(word, ids);
    scratch_ = word;
    const auto [entry, is_new] = places_.try_emplace(scratch_);
    Place& place = entry->second;
    if (is_new) {
      place.begin = ids.size();
      encode(word, ids);
      place.count = ids.size() - place.begin;
      return;
    }
    for (std::size_t i = 0; i < place.count; ++i) ids.push_back(ids[place.begin + i]);
  }

 private:
  struct Place {
    std::size_t begin = 0;
    std::size_t count = 0;
  };
  std::unordered_map<std::string, Place> places_;
  std::string scratch_;
};

/// What the parts of one text share while it is encoded.
struct TextState {
  explicit TextState(std::size_t text_size) : budget(text_size) {}

  WordMemory memory;
  MatchBudget budget;
};

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerFile read_file)
      : file(std::move(read_file)),
        bpe(file),
        added_tokens(read_added_tokens(file)),
        normalizer(read_normalizer(file)),
        pre_tokenizer(file) {
    expect_no_added_frame(file);
    size = file.vocabulary.size();
    for (const AddedToken& token : added_tokens) {
      size = std::max(size, token.id + 1);
      id_of_added.emplace(token.content, token.id);
      content_of_added.emplace(token.id, token.content);
      if (token.normalized)
        normalized_finder.add(normalize(token.content), token.id);
      else
        finder.add(token.content, token.id);
    }
    read_config(file.path.parent_path() / "tokenizer_config.json");
    file.merges = {};  // The tables made of them are enough from here on.
    file.document = nullptr;
  }

  void read_config(const fs::path& path);
  std::string normalize(std::string_view text) const;
  void encode_text(std::string_view text, TextState& state, std::vector<int>& ids) const;
  void encode_words(std::string_view text, TextState& state, std::vector<int>& ids) const;

  TokenizerFile file;
  Bpe bpe;
  std::vector<AddedToken> added_tokens;
  std::optional<Nfc> normalizer;
  PreTokenizer pre_tokenizer;
  LiteralFinder finder;             // Of tokens looked for in the text as it came,
  LiteralFinder normalized_finder;  // and of those looked for after normalisation.
  std::unordered_map<std::string, int> id_of_added;
  std::unordered_map<int, std::string> content_of_added;
  int size = 0;
  std::optional<int> padding_id;
};

void Tokenizer::Impl::read_config(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  const json config = io::parse_json_file(path);
  const auto fail = [&](ErrorKind kind, const std::string& complaint) {
    throw Error(kind, fmt::format("{}: {}", complaint, path.string()));
  };
  for (const char* const key :
       {"add_bos_token", "add_eos_token", "add_prefix_space", "split_special_tokens"})
    if (member(config, key) == true)
      fail(ErrorKind::unsupported, fmt::format("expected `{}` to be false, got true", key));
  const json& side = member(config, "padding_side");
  if (!side.is_null() && side != "right")
    fail(ErrorKind::unsupported,
         fmt::format("expected `padding_side` \"right\", got {}", io::describe(side)));

  // A string, or an object of an older transformers.
  const json& pad_token = member(config, "pad_token");
  const json& content = pad_token.is_object() ? member(pad_token, "content") : pad_token;
  if (content.is_null()) return;
  if (!content.is_string())
    fail(ErrorKind::format,
         fmt::format("expected `pad_token` to be a text, got {}", io::describe(content)));
  const auto& text = content.get_ref<const std::string&>();
  const auto added = id_of_added.find(text);
  padding_id = added != id_of_added.end() ? added->second : file.vocabulary.find(text);
  if (!padding_id)
    fail(ErrorKind::format,
         fmt::format("expected `pad_token` to be a token of the vocabulary, got {}",
                     io::in_quotes(text)));
}

std::string Tokenizer::Impl::normalize(std::string_view text) const {
  return normalizer ? to_utf8((*normalizer)(to_utf16(text))) : std::string(text);
}

void Tokenizer::Impl::encode_text(std::string_view text, TextState& state,
                                  std::vector<int>& ids) const {
  const std::string normalized = normalize(text);
  for (const Piece& piece : normalized_finder.split(normalized)) {
    if (piece.id)
      ids.push_back(*piece.id);
    else
      encode_words(piece.text, state, ids);
  }
}

void Tokenizer::Impl::encode_words(std::string_view text, TextState& state,
                                   std::vector<int>& ids) const {
  const std::u16string units = to_utf16(text);
  const std::u16string_view view = units;
  const auto encode_word = [this](std::string_view word, std::vector<int>& out) {
    bpe.encode(file.vocabulary, word, out);
  };
  for (const Span& span : pre_tokenizer.split(view, state.budget))
    state.memory.append(to_utf8(view.substr(span.begin, span.end - span.begin)), ids, encode_word);
}

Tokenizer::Tokenizer(std::unique_ptr<const Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::load(const fs::path& path) {
  return Tokenizer(std::make_unique<const Impl>(read_tokenizer_file(find_tokenizer_json(path))));
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
  const std::string valid = repair_utf8(text);
  TextState state(valid.size());
  std::vector<int> ids;
  for (const Piece& piece : impl_->finder.split(valid)) {
    if (piece.id)
      ids.push_back(*piece.id);
    else
      impl_->encode_text(piece.text, state, ids);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const int> ids) const {
  std::string bytes;
  for (const int id : ids) {
    if (const auto added = impl_->content_of_added.find(id);
        added != impl_->content_of_added.end()) {
      bytes += added->second;
      continue;
    }
    const auto token = impl_->file.vocabulary.text(id);
    if (!token)
      throw Error(ErrorKind::usage,
                  fmt::format("expected the id of a token, got {} in a vocabulary of {}", id,
                              vocabulary_size()));
    bytes += unspell_bytes(*token).value_or(std::string(*token));
  }
  return repair_utf8(bytes);
}

int Tokenizer::vocabulary_size() const {
  return impl_->size;
}

std::optional<int> Tokenizer::token_to_id(std::string_view token) const {
  const auto added = impl_->id_of_added.find(std::string(token));
  return added != impl_->id_of_added.end() ? added->second : impl_->file.vocabulary.find(token);
}

std::optional<int> Tokenizer::padding_id() const {
  return impl_->padding_id;
}

const fs::path& Tokenizer::path() const {
  return impl_->file.path;
}

}  // namespace klein::tokenizer
