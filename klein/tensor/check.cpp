#include "klein/tensor/check.h"

#include <sstream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "klein/core/error.h"

namespace klein {

std::string describe(const mx::Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string describe(const mx::array& a) {
  std::ostringstream dtype;
  dtype << a.dtype();
  return describe(a.shape()) + " " + dtype.str();
}

void expect_last_axis(const mx::array& a, int size, std::string_view what) {
  if (a.ndim() == 0 || a.shape(-1) != size)
    throw Error(ErrorKind::shape,
                fmt::format("{}: expected last axis {}, got {}", what, size, describe(a)));
}

}  // namespace klein
