#!/usr/bin/env bash
# Builds and tests everything, the way CI does.
set -euo pipefail

usage() {
  cat <<'END'
usage: tools/test.sh [options]

Installs missing packages (on Debian also Chromium, for one test), configures, builds with warnings as errors, and runs the tests.

  --preset NAME   preset to build and test: release (default), debug, asan or tsan
  --sanitizers    then also asan and tsan
  --label REGEX   only tests with such a label (kernels, framework, layers, optim, apps, tools,
                  gpu, emulated_gpu, style, package)
  --jobs N        parallel compilations (default: number of processors)
END
}

die() {
  echo "test.sh: $* (see --help)" >&2
  exit 2
}

presets=(release)
sanitizers=()
label=()
jobs=$(nproc)
while (($#)); do
  case $1 in
    --preset | --label | --jobs)
      (($# >= 2)) || die "$1 needs a value"
      case $1 in
        --preset) presets=("$2") ;;
        --label) label=(--label-regex "$2") ;;
        --jobs) jobs=$2 ;;
      esac
      shift
      ;;
    --sanitizers) sanitizers=(asan tsan) ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift
done
[[ ${presets[0]} =~ ^(release|debug|asan|tsan)$ ]] || die "unknown preset '${presets[0]}'"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs takes a positive number, not '$jobs'"
for preset in "${sanitizers[@]}"; do
  [[ $preset == "${presets[0]}" ]] || presets+=("$preset")
done

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools/setup.sh --browser

for preset in "${presets[@]}"; do
  echo "== $preset =="
  run=()
  # The thread sanitizer of GCC before 14 does not start where the kernel randomises addresses
  # widely. Test cases are listed while building, so that needs it too.
  if [[ $preset == tsan ]] && setarch -R true 2>/dev/null; then
    run=(setarch -R)
  fi
  cmake --preset "$preset" -DSKETCHGRAD_WERROR=ON
  "${run[@]}" cmake --build --preset "$preset" --parallel "$jobs"
  "${run[@]}" ctest --preset "$preset" "${label[@]}"
done
