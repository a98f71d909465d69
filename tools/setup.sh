#!/usr/bin/env bash
# Installs what building and testing need from the distribution's packages.
set -euo pipefail

usage() {
  cat <<'END'
usage: tools/setup.sh [--browser] [--check | --unpack PACKAGE FOLDER]

Installs the packages that sketchgrad needs and that are missing (Debian 12, Ubuntu 24.04),
with sudo where needed. Silent where nothing is missing. CUDA and cuDNN are optional and are not
installed.

  --browser also Chromium, in which a test looks at pages, where the distribution packages it
            (Debian; without it the test is skipped)
  --check   only name what is missing; exit code 1 where something is
  --unpack PACKAGE FOLDER
            only fetch one package and lay its files into FOLDER, without installing it
END
}

check_only=false
browser=false
unpack=()
while (($#)); do
  case $1 in
    --check) check_only=true ;;
    --browser) browser=true ;;
    --unpack)
      (($# >= 3)) || { echo "setup.sh: --unpack needs PACKAGE and FOLDER (see --help)" >&2; exit 2; }
      unpack=("$2" "$3")
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown argument '$1' (see --help)" >&2; exit 2 ;;
  esac
  shift
done

# Programs count wherever they come from; libraries have to be the packages, so that CMake finds
# them and their headers.
programs=(g++:g++ cmake:cmake ninja:ninja-build ccache:ccache python3:python3 xz:xz-utils)
libraries=(libtbb-dev libfmt-dev libdnnl-dev doctest-dev libcli11-dev nlohmann-json3-dev
  liblzma-dev zlib1g-dev)

# Ubuntu's package only fetches a snap.
if $browser && [[ $(. /etc/os-release && echo "$ID") == debian ]]; then
  programs+=(chromium:chromium)
fi

if ! command -v dpkg-query >/dev/null; then
  echo "setup.sh: this is neither Debian nor Ubuntu. Please install the equivalents of:" >&2
  echo "  ${programs[*]##*:} ${libraries[*]}" >&2
  exit 1
fi

# as_root WHAT COMMAND...: WHAT tells people what it was wanted for.
as_root() {
  local what=$1
  shift
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "setup.sh: run as root, or install sudo, to $what" >&2
    exit 1
  fi
}

# Package lists are often there and recent enough; in fresh containers they are not.
# with_lists WHAT COMMAND...
with_lists() {
  local what=$1
  shift
  "$@" 2>/dev/null && return
  as_root "$what" apt-get update --quiet=2
  "$@"
}

if ((${#unpack[@]})); then
  fetch() { apt-get download --quiet=2 "${unpack[0]}" >/dev/null; }
  folder=$(realpath --canonicalize-missing -- "${unpack[1]}")
  download=$(mktemp -d)
  trap 'rm -rf -- "$download"' EXIT
  chmod 755 "$download"  # for apt's own user
  cd -- "$download"
  with_lists "fetch ${unpack[0]}" fetch
  mkdir -p -- "$folder"
  dpkg-deb --extract "${unpack[0]}"_*.deb "$folder"
  exit 0
fi

missing=()
for entry in "${programs[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
done
for package in "${libraries[@]}"; do
  # Installed, or installed and held.
  status=$(dpkg-query --show --showformat='${db:Status-Abbrev}' "$package" 2>/dev/null || true)
  [[ $status == ?i* ]] || missing+=("$package")
done

((${#missing[@]})) || exit 0
if $check_only; then
  echo "setup.sh: missing: ${missing[*]}"
  exit 1
fi

install_missing() {
  as_root "install ${missing[*]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install --yes --quiet=2 --no-install-recommends -o Dpkg::Use-Pty=0 \
    "${missing[@]}" >/dev/null
}
if ((EUID != 0)); then as_root "install ${missing[*]}" true; fi
echo "setup.sh: installing ${missing[*]}"
with_lists "install ${missing[*]}" install_missing
