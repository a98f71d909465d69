#!/usr/bin/env bash
# check_format.sh SOURCE_DIR: fails where clang-format 14 would change a file.
# Releases of clang-format disagree, so any other one is skipped (exit code 77).
set -euo pipefail
cd "${1:?usage: check_format.sh SOURCE_DIR}"

formatter=""
for candidate in clang-format-14 clang-format; do
  if version=$("$candidate" --version 2>/dev/null) && [[ $version =~ version\ 14\. ]]; then
    formatter=$candidate
    break
  fi
done
if [[ -z $formatter ]]; then
  echo "skipped: no clang-format 14"
  exit 77
fi

find kernels framework layers optim apps tools tests \
  \( -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu' \) -print0 |
  xargs -0 --no-run-if-empty "$formatter" --dry-run --Werror
