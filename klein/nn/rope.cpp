#include "klein/nn/rope.h"

#include <cmath>

namespace klein::nn {
namespace {

RopeTables tables_from(const std::vector<float>& cosines, const std::vector<float>& sines,
                       int length, mx::Dtype dtype) {
  const int pairs = length > 0 ? static_cast<int>(cosines.size()) / length : 0;
  const mx::Shape shape{length, pairs};
  return {mx::astype(mx::array(cosines.begin(), shape), dtype),
          mx::astype(mx::array(sines.begin(), shape), dtype)};
}

}  // namespace

RopeTables RopeTables::rows(int begin, int end) const {
  const auto cut = [&](const mx::array& table) {
    return mx::slice(table, {begin, 0}, {end, table.shape(1)});
  };
  return {cut(cosines), cut(sines)};
}

RopeTables rope_tables(std::span<const PositionId> ids, const std::array<int, 4>& axes_dims,
                       double theta) {
  std::vector<float> cosines, sines;
  for (const auto& id : ids) {
    for (std::size_t axis = 0; axis < axes_dims.size(); ++axis) {
      const int dims = axes_dims[axis];
      for (int pair = 0; pair < dims; pair += 2) {
        const double frequency = 1.0 / std::pow(theta, static_cast<double>(pair) / dims);
        const double angle = id[axis] * frequency;
        cosines.push_back(static_cast<float>(std::cos(angle)));
        sines.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  return tables_from(cosines, sines, static_cast<int>(ids.size()), mx::float32);
}

RopeTables rope_tables(int length, int head_dim, float theta, mx::Dtype dtype) {
  std::vector<float> cosines, sines;
  for (int position = 0; position < length; ++position) {
    for (int pair = 0; pair < head_dim; pair += 2) {
      const float exponent = static_cast<float>(pair) / static_cast<float>(head_dim);
      const float frequency = 1.0f / std::pow(theta, exponent);
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
  }
  return tables_from(cosines, sines, length, dtype);
}

}  // namespace klein::nn
