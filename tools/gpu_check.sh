#!/usr/bin/env bash
# Builds everything that needs a GPU and runs it here.
set -euo pipefail

usage() {
  cat <<'END'
usage: tools/gpu_check.sh [options]

Installs missing packages, builds the GPU tests and the benchmarks, and runs them: see
tools/gpu_run.sh --help, whose results and exit code these are. Without a GPU the tests are built
and skip themselves; the last line then says SKIPPED, and the exit code is 0.

  --results FOLDER      for results.json, report.txt and logs (default: build/gpu_results)
  --quick               only the tests: no sanitizers, no benchmarks
  --time-limit SECONDS  for each program (default 600)
  --jobs N              parallel compilations (default: number of processors)
END
}

die() {
  echo "gpu_check.sh: $* (see --help)" >&2
  exit 2
}

results=""
run_options=()
jobs=$(nproc)
while (($#)); do
  case $1 in
    --results | --time-limit | --jobs)
      (($# >= 2)) || die "$1 needs a value"
      [[ -n $2 ]] || die "$1 needs a value"
      case $1 in
        --results) results=$(realpath --canonicalize-missing -- "$2") ;;
        --time-limit)
          [[ $2 =~ ^[1-9][0-9]*$ ]] || die "--time-limit takes a positive number, not '$2'"
          run_options+=(--time-limit "$2")
          ;;
        --jobs) jobs=$2 ;;
      esac
      shift
      ;;
    --quick) run_options+=(--quick) ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs takes a positive number, not '$jobs'"

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
tools/setup.sh
cmake --preset release -DSKETCHGRAD_BUILD_TESTS=ON -DSKETCHGRAD_BUILD_TOOLS=ON |
  sed -n 's/^-- sketchgrad/sketchgrad/p'
cmake --build --preset release --parallel "$jobs" --target gpu_tests bench

commit=$(git describe --always --abbrev=40 --dirty 2>/dev/null || echo unknown)
tools/gpu_run.sh --root build/release --commit "$commit" \
  --results "${results:-build/gpu_results}" "${run_options[@]}"
