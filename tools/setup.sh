#!/usr/bin/env bash
# Installs what the build needs and nothing twice: system packages, and a Python environment with MLX.
#
# Usage: tools/setup.sh [--test] [--tidy] [--fuzz] [--cuda]
#   --test  also what `make test` needs        --tidy  also clang-tidy
#   --fuzz  also clang, whose libFuzzer `make fuzz` runs
#   --cuda  MLX for NVIDIA GPUs, in .venv-cuda instead of .venv
# Where everything is there already it changes nothing and needs no network.
# KLEIN_SKIP_PACKAGES=1 leaves the system packages alone.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
requirements=(requirements.txt)
packages=(
  g++ cmake ninja-build ca-certificates python3 python3-venv
  libdnnl-dev libopenblas-dev libicu-dev libpng-dev libjpeg-dev libwebp-dev libexif-dev zlib1g-dev
  libfmt-dev nlohmann-json3-dev libcli11-dev doctest-dev libcurl4-openssl-dev libssl-dev
)
brew_packages=(
  cmake ninja python icu4c libpng jpeg-turbo webp libexif fmt nlohmann-json cli11 doctest curl openssl@3
)
for option in "$@"; do
  case $option in
    --test) requirements+=(requirements-test.txt) ;;
    --tidy) packages+=(clang-tidy) ;;
    --fuzz) packages+=(clang) ;;
    --cuda) venv=.venv-cuda; requirements[0]="requirements-cuda.txt" ;;
    *) echo "setup: expected --test, --tidy, --fuzz or --cuda, got '$option'" >&2; exit 2 ;;
  esac
done

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
  printf 'setup: %s\nhint: %s\n' "$1" "$2" >&2
  exit 1
}

# Prints those of the given Debian packages that are not installed.
missing_packages() {
  local package status
  for package in "$@"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || echo "$package"
  done
}

install_debian_packages() {
  local missing
  mapfile -t missing < <(missing_packages "${packages[@]}")
  [ ${#missing[@]} -gt 0 ] || return 0

  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null ||
      fail "${#missing[@]} system packages are missing, and this user is neither root nor has sudo" \
        "ask an administrator to run: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
  # Old lists may still name what is needed, so a failed update is not yet the end.
  "${apt[@]}" update >&2 || say "apt-get update failed, going on with the package lists that are here"
  "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >&2 ||
    fail "apt-get could not install ${missing[*]}" "see its message above; on Ubuntu the component 'universe' is needed"
}

install_packages() {
  if [ -n "${KLEIN_SKIP_PACKAGES:-}" ]; then
    return 0
  elif command -v dpkg-query >/dev/null && command -v apt-get >/dev/null; then
    install_debian_packages
  elif command -v brew >/dev/null; then
    brew list "${brew_packages[@]}" >/dev/null 2>&1 || brew install "${brew_packages[@]}" >&2
  elif ! command -v cmake >/dev/null || ! command -v ninja >/dev/null; then
    fail "expected apt-get or brew to install packages with, found neither" \
      "install what these Debian packages hold, then set KLEIN_SKIP_PACKAGES=1: ${packages[*]}"
  fi
}

# The system's Python first: those of version managers may lack venv, or vanish.
find_python() {
  local candidate
  for candidate in /usr/bin/python3 "$(command -v python3 || true)"; do
    if [ -x "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
      echo "$candidate"
      return 0
    fi
  done
  return 1
}

# What .venv has to hold: the requirement files, and CMake where the system's is too old for presets.
wanted_requirements() {
  cat "${requirements[@]}"
  local version
  version=$(cmake --version 2>/dev/null | sed -n 's/^cmake version \([0-9]*\.[0-9]*\).*/\1/p')
  if [ "$(printf '%s\n' 3.25 "${version:-0}" | sort -V | head -n 1)" != 3.25 ]; then
    echo "cmake==3.31.6"
  fi
}

install_python_packages() {
  local stamp=$venv/klein-requirements.txt wanted python
  wanted=$(wanted_requirements)
  # Every line of what is wanted stands in the stamp: `make test` first, then `make image`, stays offline.
  if "$venv/bin/python" -c '' 2>/dev/null && [ -f "$stamp" ] &&
    [ -z "$(grep -vxFf "$stamp" <<<"$wanted" || true)" ]; then
    return 0
  fi
  unset PYTHONHOME PYTHONPATH PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
  if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=$(find_python) ||
      fail "expected Python 3.10 or newer with venv, found none" "apt-get install python3 python3-venv"
    say "making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
  fi
  say "installing into $venv what ${requirements[*]} name"
  printf '%s\n' "$wanted" >"$venv/wanted.txt"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$venv/wanted.txt" >&2 ||
    fail "pip could not install what ${requirements[*]} name" "see its message above; it needs the network once"
  { [ ! -f "$stamp" ] || cat "$stamp"; cat "$venv/wanted.txt"; } | sort -u >"$venv/stamp.new"
  mv "$venv/stamp.new" "$stamp"
}

install_packages
install_python_packages
