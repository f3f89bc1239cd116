#include "klein/ops/backend.h"

#include "mlx/primitives.h"

#include "klein/ops/elementwise.h"
#include "unit/ops/support.h"
#ifdef KLEIN_CPU_KERNELS
#include "klein/ops/cpu/kernel.h"
#endif

namespace klein::ops::test {
namespace {

TEST_SUITE("ops/backend") {
  TEST_CASE("the portable backend builds graphs of MLX's own operations") {
    const auto name = [](Backend backend) {
      const With with(backend);
      return std::string(silu(mx::ones({2})).primitive().name());
    };
    CHECK(name(Backend::portable) != "silu");
    CHECK(name(Backend::native) == (has_cpu_kernels() ? "silu" : name(Backend::portable)));
  }

  TEST_CASE("dtypes that the kernels do not know take the portable version") {
    const With with(Backend::native);
    const auto y = silu(mx::ones({2}, mx::float16));
    CHECK(y.dtype() == mx::float16);
    CHECK(values(y)[0] == doctest::Approx(0.731).epsilon(1e-3));
  }

#ifdef KLEIN_CPU_KERNELS
  TEST_CASE("what a kernel throws comes out of eval, and the next evaluation works") {
    const With with(Backend::native);
    const auto fail = [](const std::vector<mx::array>&, mx::array&) {
      throw Error(ErrorKind::internal, "the kernel failed");
    };
    const auto same = [](const std::vector<mx::array>& in) { return in[0]; };
    const auto broken = native::cpu_kernel("broken", {mx::ones({2})}, {2}, mx::float32, fail, same);
    CHECK_THROWS_WITH(mx::eval(broken + mx::array(1.0f)), "the kernel failed");
    CHECK(values(silu(mx::zeros({2}))) == std::vector<float>{0.0f, 0.0f});
  }

  TEST_CASE("ranges cover every index once, whatever the number of threads") {
    for (const std::int64_t count : {0, 1, 2, 3, 17, 1000}) {
      std::vector<int> seen(static_cast<std::size_t>(count), 0);
      native::parallel_ranges(count, 1 << 20, [&](std::int64_t begin, std::int64_t end) {
        for (auto i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      });
      CHECK(seen == std::vector<int>(static_cast<std::size_t>(count), 1));
    }
  }
#endif
}

}  // namespace
}  // namespace klein::ops::test
