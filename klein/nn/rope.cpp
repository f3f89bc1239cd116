#include "klein/nn/rope.h"

#include <cmath>
#include <unordered_map>
#include <utility>

#include "klein/ops/host_memory.h"

namespace klein::nn {
namespace {

RopeTables tables_from(const std::vector<float>& cosines, const std::vector<float>& sines,
                       int length, mx::Dtype dtype) {
  const int pairs = length > 0 ? static_cast<int>(cosines.size()) / length : 0;
  const mx::Shape shape{length, pairs};
  return {mx::astype(ops::array_of(cosines, shape), dtype),
          mx::astype(ops::array_of(sines, shape), dtype)};
}

/// Cosines and sines of the pairs of one axis, for every place on it that was asked for: thousands
/// of tokens share the places of a few rows and columns.
using AxisTables = std::unordered_map<int, std::pair<std::vector<float>, std::vector<float>>>;

const AxisTables::mapped_type& place_on_axis(AxisTables& tables, int place, int dims,
                                             double theta) {
  const auto [entry, is_new] = tables.try_emplace(place);
  auto& [cosines, sines] = entry->second;
  if (is_new) {
    for (int pair = 0; pair < dims; pair += 2) {
      const double frequency = 1.0 / std::pow(theta, static_cast<double>(pair) / dims);
      const double angle = place * frequency;
      cosines.push_back(static_cast<float>(std::cos(angle)));
      sines.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return entry->second;
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
  std::array<AxisTables, 4> tables;
  std::vector<float> cosines, sines;
  for (const auto& id : ids) {
    for (std::size_t axis = 0; axis < axes_dims.size(); ++axis) {
      const auto& [axis_cosines, axis_sines] =
          place_on_axis(tables[axis], id[axis], axes_dims[axis], theta);
      cosines.insert(cosines.end(), axis_cosines.begin(), axis_cosines.end());
      sines.insert(sines.end(), axis_sines.begin(), axis_sines.end());
    }
  }
  return tables_from(cosines, sines, static_cast<int>(ids.size()), mx::float32);
}

RopeTables rope_tables(int length, int head_dim, float theta, mx::Dtype dtype) {
  std::vector<float> frequencies, cosines, sines;
  for (int pair = 0; pair < head_dim; pair += 2) {
    const float exponent = static_cast<float>(pair) / static_cast<float>(head_dim);
    frequencies.push_back(1.0f / std::pow(theta, exponent));
  }
  for (int position = 0; position < length; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
  }
  return tables_from(cosines, sines, length, dtype);
}

}  // namespace klein::nn
