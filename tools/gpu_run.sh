#!/usr/bin/env bash
# Runs GPU tests and benchmarks that are built already. A GPU bundle holds this file as run.sh;
# tools/gpu_check.sh runs it on a build. Needs only what any Linux has: bash and coreutils.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
usage: run.sh [options] [-- COMMAND...]

Runs every GPU test program, then each again under compute-sanitizer (memcheck, synccheck,
initcheck), then the benchmarks, and PyTorch's model and kernels of the same sizes, without and with
TF32, where python3 has a PyTorch that sees a GPU; each in turn, so that nothing else works on the
GPU. What cannot run is skipped and named. The last line says PASS, FAIL or SKIPPED (no GPU here, so
nothing was run). Exit code: 0, or 1 after FAIL.

  --results FOLDER      for results.json, report.txt and a log for each program
                        (default: gpu_results in the current folder)
  --quick               only the tests: no sanitizers, no benchmarks
  --time-limit SECONDS  for each program (default 600)
  --root FOLDER         where tests/, tools/ and apps/ hold the programs (default: where run.sh is)
  --commit ID           for the results (default: what ROOT/COMMIT holds)

With -- it only runs COMMAND, with the libraries that it has found: run.sh -- apps/lm train ...
END
}

die() {
  echo "$(basename -- "$0"): $* (see --help)" >&2
  exit 2
}

root=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
results=gpu_results
quick=false
time_limit=600
commit=""
only_command=()
while (($#)); do
  case $1 in
    --results | --time-limit | --root | --commit)
      (($# >= 2)) || die "$1 needs a value"
      case $1 in
        --results) results=$2 ;;
        --time-limit) time_limit=$2 ;;
        --root) root=$2 ;;
        --commit) commit=$2 ;;
      esac
      shift
      ;;
    --quick) quick=true ;;
    --)
      shift
      (($#)) || die "-- needs a command"
      only_command=("$@")
      break
      ;;
    -h | --help) usage; exit 0 ;;
    *) die "unknown argument '$1'" ;;
  esac
  shift
done
[[ $time_limit =~ ^[1-9][0-9]*$ ]] || die "--time-limit takes a positive number, not '$time_limit'"
[[ -n $results ]] || die "--results takes a folder"
[[ -d $root ]] || die "there is no folder '$root'"
root=$(realpath -- "$root")
if [[ -d $root/golden ]]; then export SKETCHGRAD_GOLDEN=$root/golden; fi  # a bundle's
if [[ -z $commit ]]; then
  commit=unknown
  [[ ! -r $root/COMMIT ]] || commit=$(<"$root/COMMIT")
fi

# ---- Libraries

# What a bundle leaves out, because of its size.
cublas=(libcublas.so.13 libcublasLt.so.13)
cudnn=(libcudnn.so.9 libcudnn_graph.so.9 libcudnn_ops.so.9 libcudnn_cnn.so.9 libcudnn_adv.so.9
  libcudnn_heuristic.so.9 libcudnn_engines_precompiled.so.9
  libcudnn_engines_runtime_compiled.so.9)

library_path=${LD_LIBRARY_PATH:-}
missing_libraries=()

# Large libraries and programs travel packed.
unpack_libraries() {
  local packed
  for packed in "$root"/{lib,tests,tools,apps}/*.gz; do
    [[ -e $packed && ! -e ${packed%.gz} ]] || continue
    gzip -dc -- "$packed" >"${packed%.gz}.part"
    chmod --reference="$packed" -- "${packed%.gz}.part"
    mv -- "${packed%.gz}.part" "${packed%.gz}"
  done
}

# Folders that may hold NVIDIA's libraries, the likeliest first.
library_folders() {
  tr ':' '\n' <<<"${LD_LIBRARY_PATH:-}"
  local folder
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/lib{64,} /usr/local/cuda*/lib{64,} \
    /usr/local/cuda*/targets/*/lib /usr/lib/x86_64-linux-gnu /usr/lib64; do
    echo "$folder"
  done
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null |
    sed -n 's/^\s*lib\(cublas\|cudnn\)[^ ]* .*=> \(.*\)\/[^/]*$/\2/p' || true
  python_folders lib
}

# python_folders SUBFOLDER: nvidia/cublas/SUBFOLDER and the like (CUDA 12's packages), and
# nvidia/cu13/SUBFOLDER.
python_folders() {
  python3 - "$1" 2>/dev/null <<'END' || true
import glob, os, sys
for entry in sys.path:
    for folder in sorted(glob.glob(os.path.join(entry or ".", "nvidia", "*", sys.argv[1]))):
        print(folder)
END
}

# add_library NAME: finds one, and adds its folder to library_path.
add_library() {
  local name=$1 folder
  for folder in "${folders[@]}"; do
    [[ -n $folder && -e $folder/$name ]] || continue
    [[ :$library_path: == *":$folder:"* ]] || library_path+=${library_path:+:}$folder
    return
  done
  missing_libraries+=("$name")
}

find_libraries() {
  local folders name
  unpack_libraries
  [[ ! -d $root/lib ]] || library_path=$root/lib${library_path:+:$library_path}
  mapfile -t folders < <(library_folders)
  for name in "${cublas[@]}" "${cudnn[@]}"; do add_library "$name"; done
}

# Why the loader could not start a program; empty where it could.
loader_problem() {
  # ldd fails on what is no dynamic program.
  { LD_LIBRARY_PATH=$library_path ldd "$1" 2>&1 || true; } |
    sed -n '/not found/{s/^\s*//;s/\s*(required by.*//;p;}' | head -n 1
}

find_sanitizer() {
  local folder
  command -v compute-sanitizer && return
  for folder in "${CUDA_HOME:-/usr/local/cuda}"/bin /usr/local/cuda*/bin \
    /usr/local/cuda*/compute-sanitizer $(python_folders bin); do
    [[ -x $folder/compute-sanitizer ]] || continue
    echo "$folder/compute-sanitizer"
    return
  done
}

find_libraries
if ((${#only_command[@]})); then
  export LD_LIBRARY_PATH=$library_path
  exec "${only_command[@]}"
fi

# ---- Results

mkdir -p -- "$results" || { echo "run.sh: cannot make '$results'" >&2; exit 1; }
results=$(realpath -- "$results")
report=$results/report.txt
: >"$report"

say() { printf '%s\n' "$*" | tee -a "$report"; }

# A JSON string of printable ASCII; other bytes become question marks.
json_string() {
  local text=$1
  text=${text//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//[^ -~]/?}"
}
json_string_or_null() {
  if [[ -n $1 ]]; then json_string "$1"; else printf null; fi
}

entries=()   # of "programs" in results.json
# By the precision of products:
declare -A bench_json=([fp32]="" [tf32]="")  # reports of benchmarks that have passed
declare -A torch_kernels=([fp32]=null [tf32]=null)  # PyTorch's reports, for results.json
failed=()
skipped=()
tests_run=()  # test programs that did not skip

# add_entry NAME COMMAND EXIT_CODE SECONDS STATUS NOTE; the exit code of what did not run is null.
add_entry() {
  entries+=("{\"name\": $(json_string "$1"), \"command\": $(json_string "$2"), \"exit_code\": $3, \
\"seconds\": $4, \"status\": \"$5\", \"note\": $(json_string_or_null "$6")}")
  say "$(printf '%-8s %9ss  %s%s' "$5" "$4" "$1" "${6:+ ($6)}")"
  case $5 in
    fail) failed+=("$1${6:+ ($6)}") ;;
    skipped) skipped+=("$1${6:+ ($6)}") ;;
  esac
}

# skip NAME COMMAND WHY
skip() { add_entry "$1" "$2" null 0 skipped "$3"; }

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

# run_program NAME COMMAND...: one entry; leaves its status in `status`, its output in file `log`.
run_program() {
  local name=$1 code=0 note="" begin took
  log=$results/${1//[^a-zA-Z0-9_.-]/_}.log
  shift
  begin=$(milliseconds)
  LD_LIBRARY_PATH=$library_path timeout --kill-after=10 "$time_limit" "$@" \
    >"$log" 2>&1 </dev/null || code=$?
  took=$(($(milliseconds) - begin))
  case $code in
    0) status=pass ;;
    77)
      status=skipped
      note=$(sed -n '1s/^skipped: //p' "$log")
      ;;
    124 | 137)
      status=fail
      note="ran past the limit of $time_limit s, or was killed"
      ;;
    132)
      status=fail
      note="compiled for another CPU: build with -DSKETCHGRAD_MARCH=x86-64-v3"
      ;;
    *)
      status=fail
      note="exit code $code, see $(basename -- "$log")"
      ;;
  esac
  add_entry "$name" "$*" "$code" "$((took / 1000)).$(printf '%03d' $((took % 1000)))" "$status" \
    "$note"
}

run_tests() {
  local program name problem
  for program in "$root"/tests/gpu_*; do
    [[ $program != *.gz ]] || continue  # unpacked beside it
    [[ -f $program && -x $program ]] || continue
    name=$(basename -- "$program")
    problem=$(loader_problem "$program")
    if [[ -n $problem ]]; then
      skip "$name" "$program" "$problem"
      continue
    fi
    run_program "$name" "$program"
    [[ $status == skipped ]] || tests_run+=("$program")
  done
}

# Not racecheck: it looks at memory that a block shares, of which our kernels have none.
# Errors of API calls are the programs' business: they check every call, and provoke some.
run_sanitizers() {
  local sanitizer tool program name
  sanitizer=$(find_sanitizer)
  if [[ -z $sanitizer ]]; then
    skip "memcheck, synccheck and initcheck" compute-sanitizer "no compute-sanitizer here"
    return
  fi
  for tool in memcheck synccheck initcheck; do
    for program in "${tests_run[@]}"; do
      run_program "$tool $(basename -- "$program")" "$sanitizer" --tool "$tool" \
        --error-exitcode 99 --report-api-errors no "$program"
    done
  done
}

run_benchmarks() {
  local program=$root/tools/bench problem help
  if [[ ! -x $program ]]; then
    skip bench "$program" "not built"
    return
  fi
  problem=$(loader_problem "$program")
  if [[ -n $problem ]]; then
    skip bench "$program" "$problem"
    return
  fi
  help=$(LD_LIBRARY_PATH=$library_path "$program" --help 2>&1 || true)
  if [[ $help != *--device* ]]; then
    skip bench "$program" "it has no CUDA option"
    return
  fi
  run_program bench "$program" --device cuda --json "$results/bench.json"
  [[ $status != pass ]] || bench_json[fp32]=$results/bench.json
  [[ $help == *--precision* ]] || return 0
  # Of the lines that PyTorch has, only these have products.
  run_program "bench --precision tf32" "$program" --device cuda --precision tf32 --only step \
    --json "$results/bench-tf32.json"
  [[ $status != pass ]] || bench_json[tf32]=$results/bench-tf32.json
}

# PyTorch's model of the sizes that the benchmark's step has, and its like of single lines.
run_peers() {
  # In a bundle, or beside this script in a source tree.
  local peers=$root/tools/peers tf32
  [[ -d $peers ]] || peers=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")/peers
  if [[ ! -d $peers ]]; then
    skip "PyTorch" "$peers" "not packed"
    return
  fi
  if ! python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    skip "PyTorch" "$peers" "no Python with a PyTorch that sees a GPU"
    return
  fi
  for tf32 in "" --tf32; do
    run_program "PyTorch${tf32:+ $tf32}" python3 "$peers/torch_lm.py" --device cuda --dropout 0 \
      --steps 200 --warmup-steps 20 $tf32 --report "$results/torch${tf32#-}.json"
  done
  for tf32 in "" --tf32; do run_torch_kernels "$peers/torch_kernels.py" $tf32; done
}

# run_torch_kernels PROGRAM [--tf32]: its table goes into the report, its figures into results.json.
run_torch_kernels() {
  local json=$results/torch_kernels${2:+-tf32}.json precision=fp32
  [[ -z ${2:-} ]] || precision=tf32
  local bench=${bench_json[$precision]}
  run_program "PyTorch kernels${2:+ $2}" python3 "$1" --device cuda ${2:+"$2"} \
    ${bench:+--bench "$bench"} --json "$json"
  [[ $status == pass ]] || return 0
  torch_kernels[$precision]=$(<"$json")
  say "$(<"$log")"
}

# join SEPARATOR WORD...
join() {
  local separator=$1 text=${2:-}
  shift $(($# < 2 ? $# : 2))
  while (($#)); do
    text+=$separator$1
    shift
  done
  printf '%s' "$text"
}

write_json() {
  {
    printf '{\n  "commit": %s,\n' "$(json_string "$commit")"
    printf '  "device": %s,\n' "$(json_string_or_null "$device")"
    printf '  "driver": %s,\n' "$(json_string_or_null "$driver")"
    printf '  "date": %s,\n' "$(json_string "$date")"
    printf '  "result": %s,\n' "$(json_string "$verdict")"
    printf '  "programs": [%s%s\n  ],\n' $'\n    ' "$(join $',\n    ' "${entries[@]}")"
    printf '  "torch_kernels": {"fp32": %s,\n    "tf32": %s}\n}\n' \
      "${torch_kernels[fp32]}" "${torch_kernels[tf32]}"
  } >"$results/results.json"
}

date=$(date -u +%Y-%m-%dT%H:%M:%SZ)
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null) || gpu=""
gpu=${gpu%%$'\n'*}
device=${gpu%,*}
driver=${gpu##*, }

say "commit $commit, $date"
say "GPU: ${device:-none that nvidia-smi shows}${driver:+, driver $driver}"
missing=$(join ', ' "${missing_libraries[@]}")
[[ -z $missing ]] || say "missing, so that what needs it fails: $missing"

status="" log=""
run_tests
if ((${#tests_run[@]})) && ! $quick; then
  run_sanitizers
  run_benchmarks
  run_peers
fi

# A GPU that no test saw is a mistake, and must not look like a machine without one.
verdict=pass
if ((${#tests_run[@]} == 0)) && ((${#failed[@]} == 0)); then
  if ((${#entries[@]} == 0)); then
    failed+=("there is no program $root/tests/gpu_*")
  elif [[ -n $device ]]; then
    failed+=("there is a GPU, but no test could run on it: $(join '; ' "${skipped[@]}")")
  else
    verdict=skipped
  fi
fi
((${#failed[@]} == 0)) || verdict=fail
write_json

tail_text=""
((${#skipped[@]} == 0)) || tail_text="; skipped: $(join ', ' "${skipped[@]}")"
[[ -z $missing ]] || tail_text+="; missing: $missing"
case $verdict in
  pass) say "PASS: ${#tests_run[@]} GPU test programs$tail_text" ;;
  skipped) say "SKIPPED: nothing was run, as there is no GPU: $(join ', ' "${skipped[@]}")" ;;
  fail)
    say "FAIL: $(join ', ' "${failed[@]}")$tail_text"
    exit 1
    ;;
esac
