#include "klein/weights/renaming.h"

#include <functional>

#include <doctest/doctest.h>

#include "klein/core/error.h"

namespace klein::weights {
namespace {

std::pair<ErrorKind, std::string> refused(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& e) {
    return {e.kind(), e.what()};
  }
  return {ErrorKind::internal, "nothing was refused"};
}

Renaming one_rule(const Shapes& tensors, NameRule rule, int count_from_end = 0) {
  return rename(tensors, "", std::array{rule}, count_from_end, "file");
}

TEST_SUITE("weights/renaming") {
  TEST_CASE("wildcards stand for numbers, words and the rest") {
    const Shapes tensors{{"a.12.x.y.z", {1}}, {"a.b.x.y", {2}}, {"a.01.x", {3}}};
    const auto names = one_rule(tensors, {"a.#.%.*", "new.%_#.*"});
    CHECK(names.origins.at("new.12_x.y.z").source == "a.12.x.y.z");
    CHECK(names.origins.at("a.b.x.y").source == "a.b.x.y");
    CHECK(names.origins.at("a.01.x").source == "a.01.x");
  }

  TEST_CASE("a number can be counted from the other end") {
    const auto names = one_rule({{"up.0.w", {1}}, {"up.3.w", {1}}}, {"up.#.*", "blocks.~.*"}, 4);
    CHECK(names.origins.at("blocks.3.w").source == "up.0.w");
    CHECK(names.origins.at("blocks.0.w").source == "up.3.w");
  }

  TEST_CASE("what lies outside the prefix or has an empty new name is unused") {
    const std::array rules{NameRule{"skip.*", ""}};
    const Shapes tensors{{"p.skip.me", {1}}, {"p.keep", {1}}, {"elsewhere", {1}}};
    const auto names = rename(tensors, "p.", rules, 0, "file");
    CHECK(names.origins.size() == 1);
    CHECK(names.origins.at("keep").source == "p.keep");
    CHECK(names.unused == std::vector<std::string>{"elsewhere", "p.skip.me"});
  }

  TEST_CASE("two tensors for one name are refused") {
    CHECK(refused([] {
            one_rule({{"a", {1}}, {"b", {1}}}, {"a", "b"});
          }) == std::pair{ErrorKind::format,
                          std::string("expected one tensor for b, got a and b: file")});
  }

  TEST_CASE("shapes follow the rows, the layout and the squeeze of their origins") {
    const Shapes tensors{{"qkv", {12, 5}}, {"conv", {8, 3, 3, 4}}, {"point", {6, 6, 1, 1}}};
    Renaming names;
    names.origins["q"] = {.source = "qkv", .part = 0, .parts = 3};
    names.origins["swapped"] = {.source = "qkv", .swap_halves = true};
    names.origins["conv"] = {.source = "conv", .layout = ConvLayout::channels_last};
    names.origins["matrix"] = {.source = "point", .squeeze = true};
    const auto shapes = renamed_shapes(names, tensors, "file");
    CHECK(shapes.at("q") == Shape{4, 5});
    CHECK(shapes.at("swapped") == Shape{12, 5});
    CHECK(shapes.at("conv") == Shape{8, 4, 3, 3});
    CHECK(shapes.at("matrix") == Shape{6, 6});
  }

  TEST_CASE("rows that do not divide are refused") {
    Renaming names;
    names.origins["q"] = {.source = "qkv", .part = 0, .parts = 3};
    CHECK(refused([&] {
            renamed_shapes(names, {{"qkv", {10, 5}}}, "file");
          }) ==
          std::pair{ErrorKind::shape,
                    std::string("expected qkv to have a multiple of 3 rows, got [10, 5]: file")});
    CHECK(refused([&] {
            renamed_shapes(names, {{"qkv", {}}}, "file");
          }).second == "expected qkv to have a multiple of 3 rows, got []: file");
  }

  TEST_CASE("children are counted, and a gap is named") {
    CHECK(count_children({{"b.0.x", {}}, {"b.1.x", {}}, {"b.1.y", {}}, {"c.2", {}}}, "b.",
                         "file") == 2);
    CHECK(count_children({{"c.2", {}}}, "b.", "file") == 0);
    CHECK(refused([] {
            count_children({{"b.0.x", {}}, {"b.4000.x", {}}}, "b.", "file");
          }).second == "expected b.0 to 4000, got none of number 1: file");
  }
}

}  // namespace
}  // namespace klein::weights
