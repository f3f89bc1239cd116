#pragma once

#include <string>

#include "klein/io/json.h"

namespace klein::test {

/// The JSON that lies beside a fixture.
inline nlohmann::json fixture_json(const std::string& name) {
  return io::parse_json_file(std::string(KLEIN_TEST_FIXTURES) + "/" + name + ".json");
}

}  // namespace klein::test
