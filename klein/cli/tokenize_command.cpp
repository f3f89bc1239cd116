// klein tokenize: texts in, token ids out.

#include <iterator>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/cli/commands.h"
#include "klein/cli/context.h"
#include "klein/cli/flags.h"
#include "klein/core/error.h"
#include "klein/engine/find_model.h"
#include "klein/io/json.h"
#include "klein/tokenizer/prompt_tokens.h"
#include "klein/tokenizer/tokenizer.h"

namespace klein::cli {
namespace {

struct Options {
  std::string model = "demo";
  bool raw = false;
  bool json = false;
  std::vector<std::string> texts;
};

std::vector<std::string> read_texts(const Options& options, std::istream& in) {
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!options.json) return {std::move(text)};

  constexpr const char* kWhere = "standard input";
  const auto json = io::parse_json(text, kWhere);
  if (!json.is_array())
    throw Error(ErrorKind::format, fmt::format("expected a JSON array of strings, got {}: {}",
                                               io::describe(json), kWhere));
  std::vector<std::string> texts;
  for (const auto& item : json) {
    if (!item.is_string())
      throw Error(ErrorKind::format,
                  fmt::format("expected a JSON array of strings, got {} in it: {}",
                              io::describe(item), kWhere));
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

void run(const Options& options, Context& context) {
  const auto texts =
      options.texts.empty() ? read_texts(options, context.in) : unguarded(options.texts);
  const auto tokenizer =
      tokenizer::Tokenizer::load(find_model(options.model, {.parts = {"tokenizer"}}).path);
  const auto form = options.raw ? tokenizer::TextForm::raw : tokenizer::TextForm::prompt;
  const auto ids = tokenizer::encode_texts(tokenizer, texts, form);

  if (options.json) {
    context.out << nlohmann::json(ids).dump() << '\n';
    return;
  }
  for (const auto& row : ids) context.out << fmt::format("{}\n", fmt::join(row, " "));
}

}  // namespace

void add_tokenize_command(CLI::App& app, Context& context) {
  auto o = std::make_shared<Options>();  // kept alive by the callback
  auto* command = app.add_subcommand("tokenize", "Print the token ids of texts");
  add_model_flag(*command, o->model);
  command->add_flag("--raw", o->raw, "The texts alone, without the chat template");
  command->add_flag("--json", o->json,
                    "Print a JSON array of arrays; without TEXT, read a JSON array of strings");
  command->add_option("TEXT", o->texts, "Texts [standard input is one text]")->type_name("");
  command->callback([o, &context] { run(*o, context); });
}

}  // namespace klein::cli
