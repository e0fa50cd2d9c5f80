#!/usr/bin/env bash
# Prints where a command of Cargo is, at the version pinned here; builds it first, once, into <cache>/cargo.
#
#   cargo.sh NAME
set -euo pipefail

cache=${DMS_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dms-operator}

case ${1:?which command} in
cargo-fuzz) version=0.13.2 ;;
cargo-mutants) version=27.1.0 ;;
cargo-tarpaulin) version=0.37.5 ;;
*)
  echo "error: there is no command named '$1' here" >&2
  exit 1
  ;;
esac

root=$cache/cargo/$1-$version
if [ ! -x "$root/bin/$1" ]; then
  echo "tools: building $1 $version; once, about 3 min on two cores, into $root" >&2
  # A folder of its own for what is built on the way: it goes when the command is there.
  CARGO_TARGET_DIR=$root/target cargo install -q --locked --root "$root" --version "$version" "$1" >&2
  rm -rf "$root/target"
fi
echo "$root/bin/$1"
