#!/usr/bin/env bash
# Installs what building, testing and the demo need from the distribution's packages.
set -euo pipefail

usage() {
  cat <<'END'
usage: tools/setup.sh [--check]

Installs the packages that sketchgrad needs and that are missing (Debian 12, Ubuntu 24.04),
with sudo where needed. Silent where nothing is missing. CUDA and cuDNN are optional and are not
installed.

  --check   only name what is missing; exit code 1 where something is
END
}

check_only=false
while (($#)); do
  case $1 in
    --check) check_only=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
  shift
done

# Programs count wherever they come from; libraries have to be the packages, so that CMake finds
# them and their headers.
programs=(g++:g++ cmake:cmake ninja:ninja-build ccache:ccache python3:python3 xz:xz-utils)
libraries=(libtbb-dev libfmt-dev libdnnl-dev doctest-dev libcli11-dev nlohmann-json3-dev
  liblzma-dev zlib1g-dev dict-gcide)

missing=()
for entry in "${programs[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is neither Debian nor Ubuntu. Please install the equivalents of:" >&2
  echo "  ${programs[*]##*:} ${libraries[*]}" >&2
  exit 1
fi
for package in "${libraries[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ii* ]] || missing+=("$package")
done

((${#missing[@]})) || exit 0
echo "setup.sh: missing: ${missing[*]}"
if $check_only; then
  exit 1
fi

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "setup.sh: run as root, or install sudo, to install: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
install_missing() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet=2 --no-install-recommends "${missing[@]}"
}
# Package lists are often there and recent enough; in fresh containers they are not.
if ! install_missing 2>/dev/null; then
  "${as_root[@]}" apt-get update --quiet=2
  install_missing
fi
