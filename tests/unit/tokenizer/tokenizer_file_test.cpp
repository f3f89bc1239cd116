#include "klein/tokenizer/tokenizer_file.h"

#include "unit/tokenizer/support.h"

namespace klein::tokenizer {
namespace {

using namespace test;

std::string refused_text(std::string_view text) {
  const TempDir folder;
  const auto path = folder.file("tokenizer.json", text);
  CHECK(error_of([&] { read_tokenizer_file(path); }).kind() == ErrorKind::format);
  return message_of(folder, [&] { read_tokenizer_file(path); });
}

/// The refusal of a file whose model is this text.
std::string refused_model(const std::string& model) {
  return refused_text("{\"model\": " + model + "}");
}

}  // namespace

TEST_SUITE("tokenizer/tokenizer_file") {
  TEST_CASE("both spellings of merges are read, whatever the order of the keys") {
    const TempDir folder;
    const auto file = read_tokenizer_file(folder.file("tokenizer.json", R"({
        "model": {"merges": ["a b", ["ab", "c d"]], "type": "BPE", "vocab": {"a": 1, "\u0120b": 0}},
        "version": "1.0"})"));
    CHECK(file.vocabulary.find("a") == 1);
    CHECK(file.vocabulary.find("\u0120b") == 0);
    REQUIRE(file.merges.size() == 2);
    CHECK(file.merges[0] == std::pair<std::string_view, std::string_view>("a", "b"));
    CHECK(file.merges[1] == std::pair<std::string_view, std::string_view>("ab", "c d"));
    CHECK(file.document["version"] == "1.0");
    CHECK(file.document["model"]["type"] == "BPE");
  }

  TEST_CASE("keys named like the tables elsewhere are ordinary keys") {
    const TempDir folder;
    const auto file = read_tokenizer_file(folder.file("tokenizer.json", R"({
        "vocab": {"x": "y"}, "merges": 3, "other": {"model": {"vocab": [1]}},
        "model": {"vocab": {"a": 0}, "merges": [], "inner": {"vocab": {"z": 1}}}})"));
    CHECK(file.vocabulary.size() == 1);
    CHECK(file.document["vocab"]["x"] == "y");
    CHECK(file.document["model"]["inner"]["vocab"]["z"] == 1);
  }

  TEST_CASE("a missing file is not found") {
    const TempDir folder;
    const auto read = [&] { read_tokenizer_file(folder / "tokenizer.json"); };
    CHECK(error_of(read).kind() == ErrorKind::not_found);
  }

  TEST_CASE("text that is not a JSON object is refused") {
    CHECK(refused_text("") == "expected JSON, got an error at byte 0: DIR/tokenizer.json");
    CHECK(refused_text("[1, 2]") ==
          "expected a JSON object, got an array of 2: DIR/tokenizer.json");
    CHECK(refused_text("{\"a\"") == "expected JSON, got an error at byte 4: DIR/tokenizer.json");
    CHECK(refused_text("{\"a\": }") == "expected JSON, got an error at byte 6: DIR/tokenizer.json");
    CHECK(refused_text("{\"a\": 1} x") ==
          "expected JSON, got an error at byte 9: DIR/tokenizer.json");
    CHECK(refused_text("{\"a\": 1, \"a\": 2}") ==
          "expected each key once, got \"a\" twice: DIR/tokenizer.json");
    CHECK(refused_text("{\"a\": [1, ").starts_with("expected JSON, got an error at byte 10"));
    CHECK(refused_text("{\"a\": [1, }").starts_with("expected JSON, got an error at line 1"));
    CHECK(refused_text("{\"a\": [1}}")
              .starts_with("expected JSON, got an error at line 1, column 3"));
    CHECK(
        refused_text("{\"a\": tru}").find("the value that ends at byte 9 of DIR/tokenizer.json") !=
        std::string::npos);
    CHECK(refused_text("{\"a\": " + std::string(300, '[') + std::string(300, ']') + "}")
              .starts_with("expected JSON nested at most 256 deep"));
  }

  TEST_CASE("a model that lacks its tables is refused") {
    CHECK(refused_text("{}") == "expected `model` to be an object, got null: DIR/tokenizer.json");
    CHECK(refused_model("7") == "expected `model` to be an object, got 7: DIR/tokenizer.json");
    CHECK(refused_model(R"({"merges": []})") ==
          "expected `model.vocab`, got none: DIR/tokenizer.json");
    CHECK(refused_model(R"({"vocab": {}})") ==
          "expected `model.merges`, got none: DIR/tokenizer.json");
    CHECK(refused_model(R"({"vocab": [], "merges": []})") ==
          "expected `model.vocab` to be an object, got an array of 0: DIR/tokenizer.json");
    CHECK(refused_model(R"({"vocab": {}, "merges": {"a": "b"}})") ==
          "expected `model.merges` to be an array, got an object: DIR/tokenizer.json");
    CHECK(refused_model(R"({"vocab": {}, "vocab": {}, "merges": []})") ==
          "expected each key once, got \"vocab\" twice: DIR/tokenizer.json");
  }

  TEST_CASE("ids that are no ids are refused with the token") {
    const auto refused_vocabulary = [](const std::string& entries) {
      return refused_model("{\"vocab\": {" + entries + "}, \"merges\": []}");
    };
    const std::string not_whole = "expected a whole number as the id of the token \"a\", got ";
    CHECK(refused_vocabulary(R"("a": "0")") == not_whole + "\"0\": DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": -1)") == not_whole + "-1: DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": 1.5)") == not_whole + "1.5: DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": {"b": 1})") == not_whole + "an object: DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": 16777216)") ==
          "expected ids of 0 to 16777215, got 16777216 for the token \"a\": DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": 0, "b": 0)") ==
          "expected one token per id, got \"a\" and \"b\" for 0: DIR/tokenizer.json");
    CHECK(refused_vocabulary(R"("a": 0, "a": 1)") ==
          "expected each token once, got \"a\" twice: DIR/tokenizer.json");
    CHECK(refused_vocabulary("\"\xff\": 0") ==
          "expected JSON, got an error at byte 22: DIR/tokenizer.json");
  }

  TEST_CASE("merges of another form are refused with their number") {
    for (const char* merge : {"1", "null", "{}", "\"a\"", "\"a b c\"", "\"ab\"", "[]", "[\"a\"]",
                              "[\"a\", 2]", "[\"a\", \"b\", \"c\"]", "[[\"a\", \"b\"]]"}) {
      CAPTURE(merge);
      const std::string message =
          refused_model(R"({"vocab": {}, "merges": [["x", "y"], )" + std::string(merge) + "]}");
      CHECK(message == "expected merge 1 to be \"a b\" or [\"a\", \"b\"]: DIR/tokenizer.json");
    }
  }
}

}  // namespace klein::tokenizer
