#include "klein/ops/attention.h"

#include <cmath>
#include <limits>

#include "unit/ops/support.h"

namespace klein::ops::test {
namespace {

struct Sizes {
  int batch, queries, keys, heads, kv_heads, width;
};

constexpr Sizes kSizes[] = {
    {1, 1, 1, 1, 1, 8},      {2, 7, 11, 3, 3, 16},    {1, 67, 419, 2, 2, 8},  {2, 65, 64, 4, 2, 32},
    {1, 130, 129, 8, 2, 64}, {1, 50, 200, 2, 1, 128}, {1, 40, 70, 1, 1, 512}, {1, 33, 65, 6, 6, 20},
    {1, 9, 9, 64, 1, 16},    {1, 5, 3, 2, 2, 3}};

mx::array attend(const Sizes& s, mx::Dtype dtype, const AttentionMask& mask) {
  const auto q = noise({s.batch, s.queries, s.heads, s.width}, dtype, 1);
  const auto k = noise({s.batch, s.keys, s.kv_heads, s.width}, dtype, 2);
  const auto v = noise({s.batch, s.keys, s.kv_heads, s.width}, dtype, 3);
  return attention(q, k, v, 1.0f / std::sqrt(static_cast<float>(s.width)), mask);
}

TEST_SUITE("ops/attention") {
  TEST_CASE("the kernel agrees with the portable version for every size") {
    for (const auto& sizes : kSizes)
      for (const auto dtype : kDtypes)
        check_backends("plain", [&] { return attend(sizes, dtype, {}); });
  }

  TEST_CASE("the kernel agrees with the portable version under a causal mask") {
    for (auto sizes : kSizes)
      for (const auto dtype : kDtypes) {
        sizes.queries = sizes.keys;
        check_backends("causal", [&] { return attend(sizes, dtype, {.causal = true}); });
      }
  }

  TEST_CASE("batch rows of different length see their own keys only") {
    for (const bool causal : {false, true})
      for (const auto dtype : kDtypes) {
        const AttentionMask mask = {causal, {70, 1, 64, 33}};
        check_backends("lengths", [&] { return attend({4, 70, 70, 4, 2, 32}, dtype, mask); });
      }
  }

  TEST_CASE("a row without any key gives zeros") {
    for (const auto backend : {Backend::native, Backend::portable}) {
      const auto out = computed(backend, [] {
        return attend({2, 5, 5, 2, 2, 16}, mx::float32, {.causal = true, .key_lengths = {0, 5}});
      });
      const auto rows = mx::split(out, 2, 0);
      CHECK(mx::all(rows[0] == mx::array(0.0f)).item<bool>());
      CHECK(mx::all(mx::isfinite(rows[1])).item<bool>());
      CHECK(mx::max(mx::abs(rows[1])).item<float>() > 0.1f);
    }
  }

  TEST_CASE("columns of one wide projection are read where they are") {
    for (const auto dtype : kDtypes) {
      const auto wide = noise({2, 37, 3 * 4 * 32 + 10}, dtype, 5);
      const auto part = [&](int i) {
        return mx::reshape(mx::slice(wide, {0, 0, i * 128}, {2, 37, (i + 1) * 128}),
                           {2, 37, 4, 32});
      };
      check_backends("columns", [&] { return attention(part(0), part(1), part(2), 0.2f); });
      check_backends("turned", [&] {
        const auto turned = mx::swapaxes(noise({2, 3, 32, 9}, dtype, 6), 2, 3);
        const auto q = mx::swapaxes(turned, 1, 2);
        return attention(q, q, q, 0.2f);
      });
    }
  }

  TEST_CASE("equal scores average the values, and a large score takes all") {
    const auto v = mx::reshape(mx::array({1.0f, 2.0f, 3.0f, 6.0f}), {1, 2, 1, 2});
    const auto even = computed(Backend::native, [&] {
      return attention(mx::zeros({1, 1, 1, 2}), mx::ones({1, 2, 1, 2}), v, 1.0f);
    });
    CHECK(values(even) == std::vector<float>{2.0f, 4.0f});
    const auto k = mx::reshape(mx::array({0.0f, 0.0f, 300.0f, 300.0f}), {1, 2, 1, 2});
    const auto last = computed(Backend::native, [&] {
      return attention(mx::ones({1, 1, 1, 2}), k, v, 1.0f);
    });
    CHECK(values(last) == std::vector<float>{3.0f, 6.0f});
  }

  TEST_CASE("NaN in one query reaches only its own row") {
    const auto q =
        mx::concatenate({noise({1, 4, 2, 16}, mx::float32, 1),
                         mx::full({1, 1, 2, 16}, std::numeric_limits<float>::quiet_NaN())},
                        1);
    const auto k = noise({1, 9, 2, 16}, mx::float32, 2);
    const auto out =
        mx::isnan(computed(Backend::native, [&] { return attention(q, k, k, 0.25f); }));
    CHECK_FALSE(mx::any(mx::slice(out, {0, 0, 0, 0}, {1, 4, 2, 16})).item<bool>());
    CHECK(mx::all(mx::slice(out, {0, 4, 0, 0}, {1, 5, 2, 16})).item<bool>());
  }

  TEST_CASE("shapes and masks that do not fit are refused") {
    const auto q = mx::zeros({2, 4, 6, 8}), k = mx::zeros({2, 5, 4, 8});
    CHECK(complaint([&] { attention(q, k, k, 1.0f); }) ==
          "attention: queries [2, 4, 6, 8] float32 do not go with keys [2, 5, 4, 8] float32");
    CHECK(complaint([&] { attention(q, q, k, 1.0f); }) ==
          "attention values: expected [2, 4, 6, 8], got [2, 5, 4, 8] float32");
    CHECK(complaint([&] {
            attention(q, q, q, 1.0f, {false, {4}});
          }) == "attention key lengths: expected one for each of 2 batch rows, got 1");
    CHECK(complaint([&] {
            attention(q, q, q, 1.0f, {false, {4, 5}});
          }) == "attention key lengths: expected 0 to 4, got 5");
    const auto wide = mx::zeros({2, 5, 6, 8});
    CHECK(complaint([&] { attention(q, wide, wide, 1.0f, {.causal = true}); }) ==
          "causal attention: expected as many keys as queries, got 5 and 4");
    CHECK(complaint([&] { attention(q, mx::astype(q, mx::bfloat16), q, 1.0f); }) ==
          "attention queries and keys: expected one dtype, got [2, 4, 6, 8] float32 and "
          "[2, 4, 6, 8] bfloat16");
  }
}

}  // namespace
}  // namespace klein::ops::test
