#!/usr/bin/env bash
# Removes one defence after the other and expects the test named in the patch to fail. A test that still passes holds
# nothing.
#
#   run.sh [--some N] [PATCH…]   files or their numbers; without any: all of them; --some: N of them at random
#
# A patch begins with "# removes: <the defence>", "# test: <name>" and, for an attack that tests/it/sabotage.rs lists,
# "# attack: <names>". The test is one of tests/it, or with "lib <name>" one beside the code. The patch is put on what is
# committed, in a copy that stays for the next time, so that little is built anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD

some=
if [ "${1:-}" = --some ]; then
  some=$2
  shift 2
fi
patches=()
for patch in "$@"; do
  case $patch in
  [0-9][0-9]) patches+=(tests/sabotage/"$patch"-*.patch) ;;
  *) patches+=("$patch") ;;
  esac
done
[ ${#patches[@]} -gt 0 ] || patches=(tests/sabotage/[0-9]*.patch)
[ -z "$some" ] || mapfile -t patches < <(printf '%s\n' "${patches[@]}" | shuf -n "$some" | sort)

mkdir -p "${CARGO_TARGET_DIR:-target}/sabotage"
target=$(cd "${CARGO_TARGET_DIR:-target}/sabotage" && pwd)
tree=$target/tree
export CARGO_TARGET_DIR=$target/build
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0

# What is built of others' code is the same here as there: it is linked, not copied.
if [ ! -d "$CARGO_TARGET_DIR/debug" ] && [ -d "$target/../debug/.fingerprint" ]; then
  mkdir -p "$CARGO_TARGET_DIR/debug"
  cp -al "$target"/../debug/{.fingerprint,build,deps} "$CARGO_TARGET_DIR/debug/"
  find "$CARGO_TARGET_DIR/debug" -maxdepth 2 \
    \( -name '*dms[_-]operator*' -o -name 'it-*' -o -name 'bdd-*' \) -prune -exec rm -rf {} +
fi
[ -d "$tree/.git" ] || git init -q "$tree"
git -C "$tree" fetch -q --depth 1 "file://$root" HEAD
git -C "$tree" checkout -q --force --detach FETCH_HEAD
git -C "$tree" clean -qfd

survivors=()
for patch in "${patches[@]}"; do
  patch=$(realpath "$patch")
  removes=$(sed -n 's/^# removes: //p' "$patch")
  test=$(sed -n 's/^# test: //p' "$patch")
  where=(--test it)
  if [ "${test%% *}" = lib ]; then
    test=${test#lib }
    where=(--lib)
  fi
  started=$SECONDS
  # Only what was patched before, and what is patched now, is newer than what was built.
  git -C "$tree" checkout -q --force -- .
  if ! git -C "$tree" apply "$patch"; then
    echo "error: $(basename "$patch") does not fit any more; adapt it to the code" >&2
    exit 1
  fi
  if ! (cd "$tree" && cargo test -q --features dev "${where[@]}" --no-run) 2>"$target/log"; then
    echo "error: $(basename "$patch") does not build any more; adapt it to the code:" >&2
    tail -20 "$target/log" >&2
    exit 1
  fi
  built=$((SECONDS - started))
  if (cd "$tree" && cargo test -q --features dev "${where[@]}" -- --exact "$test") >"$target/log" 2>&1; then
    if ! grep -q "1 passed" "$target/log"; then
      echo "error: $(basename "$patch") names $test, and there is no such test" >&2
      exit 1
    fi
    echo "SURVIVES  $(basename "$patch"): without the defence \"$removes\", $test passes"
    survivors+=("$patch")
  elif grep -q "1 failed" "$target/log"; then
    echo "caught    $(basename "$patch") by $test, built in $built s, $((SECONDS - started)) s in all"
  else
    echo "error: $test did not run under $(basename "$patch"); the end of its output:" >&2
    tail -20 "$target/log" >&2
    exit 1
  fi
done
[ ${#survivors[@]} -eq 0 ]
