#!/usr/bin/env bash
# Packs the GPU tests, the benchmarks and the language model for machines without a toolchain.
set -euo pipefail

limit_mib=60

usage() {
  cat <<END
usage: tools/gpu_bundle.sh [options]

Builds what needs a GPU, and packs it into one folder of at most $limit_mib MiB: the programs
(stripped), the shared libraries that a bare Linux machine may lack, PyTorch's model and kernels to
compare with, and run.sh, which runs it all there. The machine needs a driver, cuBLAS and cuDNN, an
x86-64 CPU that SKETCHGRAD_MARCH allows, and a libc as new as here.

  --output FOLDER  the folder (default: build/gpu_bundle); a former bundle there is replaced
  --build FOLDER   take the programs of this build as they are, and build nothing
  --jobs N         parallel compilations (default: number of processors)
END
}

die() {
  echo "gpu_bundle.sh: $* (see --help)" >&2
  exit 2
}

fail() {
  echo "gpu_bundle.sh: $*" >&2
  exit 1
}

output=""
build=""
jobs=$(nproc)
while (($#)); do
  case $1 in
    --output | --build | --jobs)
      (($# >= 2)) || die "$1 needs a value"
      case $1 in
        --output) output=$2 ;;
        --build) build=$2 ;;
        --jobs) jobs=$2 ;;
      esac
      [[ -n $2 ]] || die "$1 needs a value"
      shift
      ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "--jobs takes a positive number, not '$jobs'"
[[ -z $build || -d $build ]] || die "there is no folder '$build'"
[[ -z $output ]] || output=$(realpath --canonicalize-missing -- "$output")
[[ -z $build ]] || build=$(realpath -- "$build")

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
output=${output:-$PWD/build/gpu_bundle}
if [[ -z $build ]]; then
  build=$PWD/build/release
  tools/setup.sh
  cmake --preset release -DSKETCHGRAD_BUILD_TESTS=ON -DSKETCHGRAD_BUILD_APPS=ON \
    -DSKETCHGRAD_BUILD_TOOLS=ON | sed -n 's/^-- sketchgrad/sketchgrad/p'
  cmake --build --preset release --parallel "$jobs" --target gpu_tests lm bench
fi

programs=()
for program in "$build"/tests/gpu_* "$build/tools/bench" "$build/apps/lm"; do
  if [[ -f $program && -x $program ]]; then programs+=("${program#"$build"/}"); fi
done
[[ ${programs[*]} == *tests/gpu_* ]] ||
  fail "there is no program $build/tests/gpu_*: was it built without CUDA?"

# Only what a bundle consists of is ever removed.
if [[ -e $output ]]; then
  [[ -d $output ]] || fail "'$output' is no folder"
  [[ -z $(ls -A -- "$output") || -e $output/COMMIT ]] ||
    fail "'$output' holds something else than a bundle"
  (cd -- "$output" && rm -rf -- tests tools apps lib golden run.sh COMMIT)
fi
mkdir -p -- "$output"/{tests,tools,apps,lib}

git describe --always --abbrev=40 --dirty >"$output/COMMIT" 2>/dev/null ||
  echo unknown >"$output/COMMIT"
cp -- tools/gpu_run.sh "$output/run.sh"
mkdir -p -- "$output/tools/peers"
cp -- tools/peers/*.py "$output/tools/peers/"
mkdir -p -- "$output/golden"  # what the tests of layers compare with
cp -- tests/golden/*.json "$output/golden/"

# Of the C library and the driver only the machine's own work; cuBLAS and cuDNN are too large.
left_out='^(linux-vdso|ld-linux.*|lib(c|m|dl|rt|pthread|resolv|util|cuda|nvidia-.*))\.so'
left_out+='|^lib(cublas|cublasLt|cudnn.*)\.so'

for program in "${programs[@]}"; do
  cp -- "$build/$program" "$output/$program"
  strip -- "$output/$program" 2>/dev/null || true  # a script has nothing to strip
  { ldd "$build/$program" 2>/dev/null || true; } | sed -n 's/^\s*\([^ ]*\) => \(\/[^ ]*\).*/\1 \2/p'
done | sort -u | while read -r name path; do
  [[ $name =~ $left_out ]] || cp -L -- "$path" "$output/lib/$name"
done

# Packed, since oneDNN alone is 38 MiB; run.sh unpacks them.
find "$output"/{lib,tests,tools,apps} -type f -size +4M -exec gzip --best --no-name -- {} +

bytes=$(find "$output" -type f -printf '%s\n' | awk '{sum += $1} END {printf "%d", sum}')
mib=$(awk -v bytes="$bytes" 'BEGIN {printf "%.1f", bytes / 1048576}')
((bytes <= limit_mib << 20)) || fail "$output has $mib MiB, more than $limit_mib"
echo "$output: $mib MiB, ${#programs[@]} programs, commit $(<"$output/COMMIT")"
