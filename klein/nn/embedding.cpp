#include "klein/nn/embedding.h"

#include <cmath>
#include <vector>

#include "klein/ops/elementwise.h"

namespace klein::nn {

mx::array sinusoidal_embedding(const mx::array& timesteps, int channels) {
  const int half = channels / 2;
  std::vector<float> frequencies(static_cast<std::size_t>(half));
  const float log_period = static_cast<float>(-std::log(10000.0));
  for (int i = 0; i < half; ++i) {
    // The exponent is float32 in the reference; a more exact one turns t = 1000 by another angle.
    const float exponent = log_period * static_cast<float>(i) / static_cast<float>(half);
    frequencies[static_cast<std::size_t>(i)] =
        static_cast<float>(std::exp(static_cast<double>(exponent)));
  }
  const auto t = mx::reshape(mx::astype(timesteps, mx::float32), {-1, 1});
  const auto angles = t * mx::array(frequencies.begin(), {1, half});
  return mx::concatenate({mx::cos(angles), mx::sin(angles)}, -1);
}

TimestepEmbedder::TimestepEmbedder(int channels, int dim)
    : linear_1(channels, dim), linear_2(dim, dim) {}

mx::array TimestepEmbedder::operator()(const mx::array& x) const {
  return linear_2(ops::silu(linear_1(x)));
}

void TimestepEmbedder::visit(Visitor& visitor) {
  visitor.linear("linear_1", linear_1);
  visitor.linear("linear_2", linear_2);
}

}  // namespace klein::nn
