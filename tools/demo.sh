#!/usr/bin/env bash
# Trains one language model twice, with dense Adam and with Adam in sketches, and compares.
set -euo pipefail

# The model and the length of both runs.
embedding_dim=64
hidden=128
layers=1
bptt=35
batch=20
steps=400
learning_rate=0.003
clip=1
vocab_min=5
seed=1
sketch_ratio=0.2
# Evaluation takes as long per token as a third of training, so it gets few lines.
evaluation_lines=3000

usage() {
  cat <<END
usage: tools/demo.sh [TEXT]

Trains a small language model on TEXT twice at the same settings, with dense Adam and with both
moments in sketches of $sketch_ratio of their size, and prints perplexity, speed and memory side by side.
TEXT, plain, .xz or .gz, is split into tokens at white space. Without it, the text is a dictionary of
English (GCIDE). Takes about four minutes on two cores once it is built. Leaves everything in
build/demo/.
END
}

text=""
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    -*) echo "demo.sh: unknown flag '$1' (see --help)" >&2; exit 2 ;;
    *)
      [[ -z $text ]] || { echo "demo.sh: one TEXT at most (see --help)" >&2; exit 2; }
      text=$1
      [[ -f $text && -r $text ]] || { echo "demo.sh: cannot read '$text'" >&2; exit 2; }
      text=$(realpath -- "$text")
      ;;
  esac
  shift
done

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Only what a run leaves behind is ever removed: people may keep texts of their own beside it.
folder=build/demo
made=(dictionary.txt text.txt train.txt valid.txt test.txt
  dense.json dense.jsonl sketched.json sketched.jsonl)
for name in "${made[@]}"; do
  if [[ -n $text && $text -ef $folder/$name ]]; then
    echo "demo.sh: '$text' would be overwritten; please copy it elsewhere" >&2
    exit 2
  fi
done

tools/setup.sh
cmake --preset release -DSKETCHGRAD_BUILD_APPS=ON -DSKETCHGRAD_BUILD_TOOLS=ON | sed -n 's/^-- sketchgrad/sketchgrad/p'
cmake --build --preset release --target lm compare_runs

mkdir -p "$folder"
(cd -- "$folder" && rm -f -- "${made[@]}")

# Headwords and definitions in lower case, punctuation as tokens, without pronunciations and sources.
dictionary() {
  local packed=usr/share/dictd/gcide.dict.dz unpacked=$folder/dict-gcide
  if [[ -r /$packed ]]; then
    unpacked=
  elif [[ ! -r $unpacked/$packed ]]; then
    tools/setup.sh --unpack dict-gcide "$unpacked"
  fi
  zcat <"$unpacked/$packed" |
    LC_ALL=C sed -E 's/\[(1913 Webster|WordNet|PJC|Century Dict)[^]]*\]//g
                     s/\\[^\\]*\\//g
                     s/[][(){}<>.,;:!?"*]/ & /g
                     s/--/ -- /g' |
    tr '[:upper:]' '[:lower:]'
}

# Told by the first bytes, as lm does.
unpack() {
  case $(head -c 6 -- "$1" | od -A n -t x1 | tr -d ' \n') in
    fd377a585a00) xz -dc <"$1" ;;
    1f8b*) gzip -dc <"$1" ;;
    *) cat -- "$1" ;;
  esac
}

# Lines go in blocks, so that neighbours stay together: of every `period` blocks, at least twenty,
# one validates, one tests and the others train.
split_text() {
  local block_lines=20 lines period
  lines=$(grep -c '[^[:space:]]' "$1" || true)
  period=$((lines / evaluation_lines > 20 ? lines / evaluation_lines : 20))
  if ((lines < block_lines * period)); then
    echo "demo.sh: the text is too short: $lines lines that are not empty," \
      "$((block_lines * period)) are needed" >&2
    exit 1
  fi
  awk -v folder="$folder" -v period="$period" -v block_lines="$block_lines" '
    NF {
      block = int(lines / block_lines) % period
      lines++
      name = block == period - 2 ? "valid" : block == period - 1 ? "test" : "train"
      print > (folder "/" name ".txt")
    }' "$1"
}

if [[ -z $text ]]; then
  text=$folder/dictionary.txt
  dictionary >"$text"
else
  unpack "$text" >"$folder/text.txt"
  text=$folder/text.txt
fi
split_text "$text"

train() {
  local name=$1
  shift
  echo "== $name =="
  build/release/apps/lm train \
    --train "$folder/train.txt" --valid "$folder/valid.txt" --test "$folder/test.txt" \
    --vocab-min "$vocab_min" --embedding-dim "$embedding_dim" --hidden "$hidden" \
    --layers "$layers" --bptt "$bptt" --batch "$batch" --steps "$steps" \
    --optimizer adam --learning-rate "$learning_rate" --clip "$clip" --seed "$seed" \
    --report "$folder/$name.json" --metrics "$folder/$name.jsonl" "$@"
}

train dense
train sketched --moment1 "sketch:$sketch_ratio" --moment2 "sketch:$sketch_ratio"

echo
build/release/tools/compare_runs "dense=$folder/dense.json" "sketched=$folder/sketched.json"
