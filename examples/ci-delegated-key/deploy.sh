#!/bin/sh
# What a pipeline runs. It needs kubectl with the plugin, the right to apply in the namespace, and out of its secret store:
#   DMS_OPERATOR_KEY_SEED   the seed of its own key, 64 hex digits
#   DMS_OPERATOR_GRANT      the delegation to that key, as `kubectl hosting token delegate` printed it
set -eu
cd "$(dirname "$0")"
signed=$(mktemp)
trap 'rm -f "$signed"' EXIT

kubectl kustomize . > "$signed"                # render first: nothing may change the manifest after it is signed
kubectl hosting sign -i -f "$signed"
kubectl hosting verify -f "$signed"            # what is let through here, the provider accepts
kubectl hosting plan -f "$signed"
kubectl hosting apply -f "$signed" --timeout 5m
