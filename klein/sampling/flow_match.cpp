#include "klein/sampling/flow_match.h"

#include <cmath>

#include <fmt/format.h>

#include "klein/core/error.h"

namespace klein::sampling {
namespace {

/// One noise level under the shift; float32 throughout, like numpy's arrays.
float shifted(const SchedulerConfig& config, float sigma, double mu) {
  if (!config.use_dynamic_shifting)
    return config.shift * sigma / (1.0f + (config.shift - 1.0f) * sigma);
  const float m = static_cast<float>(config.exponential_time_shift ? std::exp(mu) : mu);
  const float odds = 1.0f / sigma - 1.0f;
  return m / (m + odds);
}

}  // namespace

double empirical_mu(int image_tokens, int steps) {
  const double length = image_tokens;
  const double at_200_steps = 0.00016927 * length + 0.45666666;
  if (image_tokens > 4300) return at_200_steps;
  const double at_10_steps = 8.73809524e-05 * length + 1.89833333;
  const double slope = (at_200_steps - at_10_steps) / 190.0;
  return slope * steps + (at_200_steps - 200.0 * slope);
}

std::vector<float> linear_sigmas(int steps) {
  std::vector<float> sigmas(static_cast<std::size_t>(steps));
  const double last = 1.0 / steps;
  const double width = steps > 1 ? (last - 1.0) / (steps - 1) : 0.0;
  for (int i = 0; i < steps; ++i)
    sigmas[static_cast<std::size_t>(i)] = static_cast<float>(1.0 + i * width);
  if (steps > 1) sigmas.back() = static_cast<float>(last);
  return sigmas;
}

Schedule make_schedule(const SchedulerConfig& config, const std::vector<float>& unshifted,
                       double mu) {
  if (unshifted.empty()) throw Error(ErrorKind::usage, "expected at least one sigma, got none");
  Schedule schedule;
  for (const float sigma : unshifted) {
    if (!(sigma > 0.0f && sigma <= 1.0f))
      throw Error(ErrorKind::usage,
                  fmt::format("expected every sigma above 0 and at most 1, got {}", sigma));
    schedule.sigmas.push_back(shifted(config, sigma, mu));
    schedule.timesteps.push_back(schedule.sigmas.back() *
                                 static_cast<float>(config.num_train_timesteps));
  }
  schedule.sigmas.push_back(0.0f);
  return schedule;
}

mx::array euler_step(const mx::array& sample, const mx::array& velocity, float sigma,
                     float next_sigma) {
  const auto change = velocity * scalar_like(velocity, next_sigma - sigma);
  const auto sum = mx::astype(sample, mx::float32) + mx::astype(change, mx::float32);
  return mx::astype(sum, velocity.dtype());
}

mx::array scale_noise(const mx::array& sample, float sigma, const mx::array& noise) {
  const auto level = scalar_like(sample, sigma);
  return level * noise + (scalar_like(sample, 1.0f) - level) * sample;
}

mx::array clean_estimate(const mx::array& sample, const mx::array& velocity, float sigma) {
  return euler_step(sample, velocity, sigma, 0.0f);
}

}  // namespace klein::sampling
