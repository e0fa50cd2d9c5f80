#!/usr/bin/env bash
# Says what this machine lacks before anything is built: one sentence for each thing, with what to install.
#
#   check.sh              for the tests
#   check.sh demo NAME…   for the demo with these tools of build.sh; then says in one line what will be built
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# As make gives it: it may be a command with arguments.
cargo=${CARGO:-cargo}
cargo=${cargo%% *}
rustc=${RUSTC:-rustc}
target=${CARGO_TARGET_DIR:-target}
# The operator itself, on two cores with an empty build folder.
operator_seconds=360 operator_megabytes=4000

lacking=false
lacks() {
  echo "error: $*" >&2
  lacking=true
}

there() {
  command -v "$1" >/dev/null
}

# at_least 1.96.1 1.95: the first two numbers count.
at_least() {
  local have need
  IFS=. read -r -a have <<<"$1"
  IFS=. read -r -a need <<<"$2"
  [[ ${have[0]:-} =~ ^[0-9]+$ && ${have[1]:-} =~ ^[0-9]+ ]] || return 1
  have[1]=${BASH_REMATCH[0]}
  ((have[0] > need[0] || (have[0] == need[0] && have[1] >= need[1])))
}

check_rust() {
  local needed found how
  needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
  how="install Rust $needed or newer (https://rustup.rs)"
  there "$cargo" || lacks "there is no '$cargo' on the PATH: $how"
  if ! there "$rustc"; then
    lacks "there is no '$rustc' on the PATH: $how"
    return
  fi
  if found=$(cd "$root" && "$rustc" --version 2>&1) && at_least "${found##*rustc }" "$needed"; then return; fi
  lacks "Rust $needed is needed, and '$rustc' says \"${found##*$'\n'}\": run 'rustup update stable', or $how"
}

# Asked in the folder of a go.mod, it is the Go that will be used there: one that fetches a newer one by itself says so.
check_go() {
  local module needed found how
  for module in "$@"; do
    needed=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$module/go.mod")
    how="install Go ${needed%.*} or newer (https://go.dev/dl/)"
    if ! there go; then
      lacks "there is no 'go' on the PATH: $how"
      return
    fi
    if found=$(cd "$module" && go env GOVERSION 2>&1) && at_least "${found##*go}" "$needed"; then continue; fi
    lacks "Go ${needed%.*} is needed, and 'go' says \"${found##*$'\n'}\": $how"
    return
  done
}

check_c() {
  local how="install a C compiler with its headers (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc make)"
  if ! there cc; then
    lacks "there is no 'cc' on the PATH: $how"
  elif ! cc -fsyntax-only -xc - <<<'#include <stdlib.h>' 2>/dev/null; then
    lacks "'cc' does not find the C headers: $how"
  fi
  there make || lacks "there is no 'make' on the PATH: install make (Debian, Ubuntu: apt install make; Fedora: dnf install make)"
}

plan=() modules=("$here"/*/)
if [ "${1:-}" = demo ]; then
  demo=true
  shift
  told=$("$here/build.sh" --plan "$@")
  [ -z "$told" ] || mapfile -t plan <<<"$told"
  # What is there already needs no Go any more.
  [ ${#plan[@]} -gt 0 ] || modules=()
else
  demo=false
  modules+=("$root/tests/interop")
fi

check_rust
check_go ${modules[@]+"${modules[@]}"}
check_c
if $lacking; then exit 1; fi
$demo || exit 0

what=${plan[0]:-} seconds=${plan[1]:-0} megabytes=${plan[2]:-0} where=${plan[3]:-}
if [ ! -x "$target/debug/dms-operator" ]; then
  what="${what:+$what and }dms-operator" where="${where:+$where, }$target"
  seconds=$((seconds + operator_seconds)) megabytes=$((megabytes + operator_megabytes))
fi
[ -z "$what" ] ||
  echo "demo: building $what; once, about $(((seconds + 59) / 60)) min on two cores and $(((megabytes + 999) / 1000)) GB of disk, into $where, and the caches of Go and Cargo"
