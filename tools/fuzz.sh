#!/usr/bin/env bash
# Runs the fuzz targets that `cmake --build --preset fuzz` built, one after the other.
#
# Usage: tools/fuzz.sh [SECONDS [TARGET...]]
# Each runs for SECONDS [600]. New inputs gather in build/fuzz/corpus; the one that ends a target (a
# crash, a leak, 10 seconds, 2 GB) is left in build/fuzz/found, and the script ends with status 1.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "fuzz: expected a number of seconds, got '$seconds'" >&2; exit 2; }
targets=("${@:2}")
if [ ${#targets[@]} = 0 ]; then
  for program in build/fuzz/tests/fuzz/fuzz_*; do targets+=("${program##*fuzz_}"); done
fi

# Every input becomes a file; where memory can hold them, no disk is written.
[ -n "${TMPDIR:-}" ] || [ ! -d /dev/shm ] || export TMPDIR=/dev/shm
TMPDIR=$(mktemp -d -t klein-fuzz-run-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

status=0
for target in "${targets[@]}"; do
  mkdir -p "build/fuzz/corpus/$target" "build/fuzz/found/$target"
  echo "fuzz: $target for $seconds seconds" >&2
  "build/fuzz/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -max_len=16384 -print_final_stats=1 -artifact_prefix="build/fuzz/found/$target/" \
    "build/fuzz/corpus/$target" "tests/fuzz/corpus/$target" || status=1
done
exit $status
