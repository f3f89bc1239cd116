#pragma once

namespace klein::flux2 {

enum class Variant { distilled, base, kv };

}  // namespace klein::flux2
