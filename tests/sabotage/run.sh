#!/usr/bin/env bash
# Removes one defence after the other and expects the test named in the patch to fail. A test that still passes holds
# nothing.
#
#   run.sh [PATCH…]   without a patch: all of them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

mkdir -p "${CARGO_TARGET_DIR:-target}/sabotage"
target=$(cd "${CARGO_TARGET_DIR:-target}/sabotage" && pwd)
tree=$target/tree
export CARGO_TARGET_DIR=$target/build
patches=("$@")
[ ${#patches[@]} -gt 0 ] || patches=(tests/sabotage/[0-9]*.patch)
survivors=()

for patch in "${patches[@]}"; do
  test=$(sed -n 's/^# test: //p' "$patch")
  removes=$(sed -n 's/^# removes: //p' "$patch")
  rm -rf "$tree"
  mkdir -p "$tree"
  git archive HEAD | tar -x -C "$tree"
  patch -s -p1 -d "$tree" <"$patch"
  started=$SECONDS
  if ! (cd "$tree" && cargo test -q --features dev --test it --no-run); then
    echo "error: $patch does not build any more; adapt it to the code" >&2
    exit 1
  fi
  if (cd "$tree" && cargo test -q --features dev --test it -- --exact "$test") \
    >"$target/log" 2>&1; then
    echo "SURVIVES  $(basename "$patch"): without the defence \"$removes\", $test passes"
    survivors+=("$patch")
  elif grep -q "1 failed" "$target/log"; then
    echo "caught    $(basename "$patch") by $test, $((SECONDS - started)) s"
  else
    echo "error: $test did not run under $patch; the end of its output:" >&2
    tail -20 "$target/log" >&2
    exit 1
  fi
done
[ ${#survivors[@]} -eq 0 ]
