#pragma once

#include <vector>

#include "klein/tensor/mlx.h"

namespace klein::sampling {

/// More than any schedule can tell apart: as many as there are timesteps.
inline constexpr int kMaxSteps = 1000;

/// What scheduler/scheduler_config.json says; field names are diffusers'.
struct SchedulerConfig {
  int num_train_timesteps = 1000;
  bool use_dynamic_shifting = false;   ///< True: sigmas are shifted by mu. False: by `shift`.
  bool exponential_time_shift = true;  ///< time_shift_type "exponential", else "linear".
  float shift = 1.0f;
};

/// The noise levels of one picture, from the noisiest to clean.
struct Schedule {
  std::vector<float> sigmas;     ///< steps + 1 values in [0, 1]; the last is 0.
  std::vector<float> timesteps;  ///< steps values: sigma * num_train_timesteps.

  int steps() const { return static_cast<int>(timesteps.size()); }
};

/// The resolution-dependent shift mu; `image_tokens` counts the tokens of the picture itself.
///
/// Source   diffusers pipeline_flux2_klein.py, compute_empirical_mu (double precision)
double empirical_mu(int image_tokens, int steps);

/// numpy.linspace(1, 1 / steps, steps), rounded to float32.
std::vector<float> linear_sigmas(int steps);

/// Shifts `unshifted` (see linear_sigmas) by `mu`, or by config.shift without dynamic shifting.
///
/// Dtype    every operation rounds to float32, as numpy does it
/// Errors   Error(usage) when there is no sigma, or one is outside (0, 1]
/// Source   diffusers scheduling_flow_match_euler_discrete.py, set_timesteps
Schedule make_schedule(const SchedulerConfig& config, const std::vector<float>& unshifted,
                       double mu);

/// sample + (next_sigma - sigma) * velocity, in the dtype of `velocity`.
///
/// Dtype    the step width is rounded to the dtype of `velocity` before the product, the product
///          is rounded, and the sum is taken in float32: what torch does with a 0-dim tensor
/// Source   diffusers scheduling_flow_match_euler_discrete.py, step
mx::array euler_step(const mx::array& sample, const mx::array& velocity, float sigma,
                     float next_sigma);

/// sigma * noise + (1 - sigma) * sample: a clean sample as it is at a noise level.
///
/// Dtype    that of `sample`, to which sigma and every operation round
/// Source   diffusers scheduling_flow_match_euler_discrete.py, scale_noise
mx::array scale_noise(const mx::array& sample, float sigma, const mx::array& noise);

/// What the picture would be if the velocity stayed: sample - sigma * velocity.
mx::array clean_estimate(const mx::array& sample, const mx::array& velocity, float sigma);

}  // namespace klein::sampling
