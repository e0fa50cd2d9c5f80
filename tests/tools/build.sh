#!/usr/bin/env bash
# Builds the commands that the demo and the tests run beside the operator, at the versions pinned in the go.mod of each
# folder here. Each lands in <cache>/tools/<hash of its go.mod and go.sum>/, so it is built again only when its pins
# change. src/dev/tools.rs looks in the same places.
#
#   build.sh [NAME…]         without a name: all of them
#   build.sh --path NAME     prints where it is
#   build.sh --plan [NAME…]  prints what would be built, with versions, seconds, megabytes and folder, a line each;
#                            nothing when all is there
#
# With KUBEBUILDER_ASSETS set, etcd, kube-apiserver and kubectl are taken from there instead.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${DMS_OPERATOR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dms-operator}
all="etcd kube-apiserver kube-controller-manager kubectl helm"

fail() {
  echo "error: $*" >&2
  exit 1
}

module_of() {
  case $1 in
  kube-apiserver | kube-controller-manager | kubectl) echo kubernetes ;;
  *) echo "$1" ;;
  esac
}

package_of() {
  case $1 in
  etcd) echo go.etcd.io/etcd/server/v3 ;;
  helm) echo helm.sh/helm/v4/cmd/helm ;;
  *) echo "k8s.io/kubernetes/cmd/$1" ;;
  esac
}

# Seconds on two cores with an empty build cache.
seconds_of() {
  case $1 in
  kube-apiserver) echo 420 ;;
  kube-controller-manager) echo 180 ;;
  helm) echo 240 ;;
  kubectl) echo 70 ;;
  *) echo 60 ;;
  esac
}

# Megabytes in the module and build caches; the Kubernetes commands share most of theirs.
megabytes_of() {
  case $1 in
  kube-apiserver) echo 2800 ;;
  helm) echo 1500 ;;
  kube-controller-manager) echo 900 ;;
  *) echo 500 ;;
  esac
}

version_of() {
  local module
  module=$(module_of "$1")
  sed -n "s|^require [^ ]* \(v[^ ]*\)$|\1|p" "$here/$module/go.mod"
}

# A binary built from a module cache does not know its own version.
version_flags() {
  local version=$2 minor
  case $1 in
  helm) echo "-X helm.sh/helm/v4/internal/version.version=$version" ;;
  kube*)
    minor=${version#v1.}
    minor=${minor%%.*}
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
      echo "-X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
    done
    ;;
  esac
}

sha256() {
  if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-12
}

folder_of() {
  local module
  module=$(module_of "$1")
  echo "$cache/tools/$(cat "$here/$module/go.mod" "$here/$module/go.sum" | sha256)"
}

from_assets() {
  case $1 in
  etcd | kube-apiserver | kubectl) [ -n "${KUBEBUILDER_ASSETS:-}" ] ;;
  *) false ;;
  esac
}

if [ "${1:-}" = --path ]; then
  if from_assets "$2"; then echo "$KUBEBUILDER_ASSETS/$2"; else echo "$(folder_of "$2")/$2"; fi
  exit
fi

plan=false
if [ "${1:-}" = --plan ]; then
  plan=true
  shift
fi

missing=()
for name in ${*:-$all}; do
  case " $all " in
  *" $name "*) ;;
  *) fail "there is no tool named '$name'; the tools are: $all" ;;
  esac
  if from_assets "$name"; then
    [ -x "$KUBEBUILDER_ASSETS/$name" ] ||
      fail "KUBEBUILDER_ASSETS is set, but $KUBEBUILDER_ASSETS/$name is not there: run 'setup-envtest use' again or unset it"
  elif [ ! -x "$(folder_of "$name")/$name" ]; then
    missing+=("$name")
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

list='' seconds=0 megabytes=0
for name in "${missing[@]}"; do
  list="$list${list:+, }$name $(version_of "$name")"
  seconds=$((seconds + $(seconds_of "$name")))
  megabytes=$((megabytes + $(megabytes_of "$name")))
done
if $plan; then
  printf '%s\n' "$list" "$seconds" "$megabytes" "$cache/tools"
  exit
fi

command -v go >/dev/null ||
  fail "Go is needed to build ${missing[*]}, and there is no 'go' on the PATH: install Go 1.26 or newer (https://go.dev/dl/)"

echo "tools: building $list; once, about $(((seconds + 59) / 60)) min on two cores and $(((megabytes + 999) / 1000)) GB of disk, into $cache/tools"

partial=''
trap '[ -z "$partial" ] || rm -f "$partial"' EXIT
for name in "${missing[@]}"; do
  folder=$(folder_of "$name")
  mkdir -p "$folder"
  # Two builds at once would only be slow: the rename is atomic.
  partial=$folder/.$name.$$
  started=$SECONDS
  (cd "$here/$(module_of "$name")" && CGO_ENABLED=0 go build -mod=readonly -trimpath \
    -ldflags "-s -w $(version_flags "$name" "$(version_of "$name")" | tr '\n' ' ')" -o "$partial" "$(package_of "$name")") ||
    fail "$name could not be built; the lines above say why"
  mv "$partial" "$folder/$name"
  partial=''
  echo "tools: $name built in $((SECONDS - started)) s"
done
