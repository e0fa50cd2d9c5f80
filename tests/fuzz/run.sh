#!/usr/bin/env bash
# Runs every fuzz target for so many seconds, two at a time. What is found interesting is kept in <cache>/fuzz, so that the
# next run goes on from there; what breaks a target is written to <cache>/fuzz/broken and named.
#
#   run.sh SECONDS [TARGET…]
#
# On stable Rust, without a sanitizer: the code is safe Rust, and what is looked for is a panic or a broken promise.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DMS_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dms-operator}
seconds=${1:?how many seconds}
shift
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(token envelope context mutated gojson)

command -v c++ >/dev/null || {
  echo "error: there is no 'c++' on the PATH, and the fuzzer needs one: install g++ (Debian, Ubuntu: apt install g++)" >&2
  exit 1
}
cargo_fuzz=$("$here/../tools/cargo.sh" cargo-fuzz)
# Apart from the operator's: everything is built anew with the fuzzer's flags.
export CARGO_TARGET_DIR=$cache/fuzz/target
corpora=$cache/fuzz/corpora broken=$cache/fuzz/broken logs=$cache/fuzz/logs
mkdir -p "$corpora" "$broken" "$logs"

(cd "$here" && cargo run -q --locked --example seeds "$corpora")
(cd "$here" && "$cargo_fuzz" fuzz build --fuzz-dir . --sanitizer none >"$logs/build" 2>&1) || {
  cat "$logs/build" >&2
  exit 1
}

run() {
  mkdir -p "$corpora/$1"
  (cd "$here" && "$cargo_fuzz" fuzz run --fuzz-dir . --sanitizer none "$1" "$corpora/$1" -- \
    -max_total_time="$seconds" -max_len=20000 -rss_limit_mb=1024 -timeout=10 -artifact_prefix="$broken/$1-") >"$logs/$1" 2>&1
}

failed=false
report() {
  if wait "$2"; then
    echo "fuzz: $1: $(grep -E '^Done ' "$logs/$1" | tail -1 | sed 's/^Done //')"
  else
    failed=true
    tail -40 "$logs/$1" >&2
    echo "error: the fuzz target $1 broke: the lines above say how, and $broken/$1-* is the input" >&2
  fi
}

for ((index = 0; index < ${#targets[@]}; index += 2)); do
  pair=("${targets[@]:index:2}") pids=()
  for target in "${pair[@]}"; do
    run "$target" &
    pids+=($!)
  done
  for number in "${!pair[@]}"; do report "${pair[number]}" "${pids[number]}"; done
done
! $failed
