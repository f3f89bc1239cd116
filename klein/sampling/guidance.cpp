#include "klein/sampling/guidance.h"

namespace klein::sampling {

mx::array guide(const mx::array& positive, const mx::array& negative, float guidance) {
  const auto difference = mx::astype(positive - negative, mx::float32);
  const auto pushed = mx::astype(difference * mx::array(guidance), positive.dtype());
  return negative + pushed;
}

}  // namespace klein::sampling
