//go:build tools

// Package tools pins kubeconform, with which the tests check manifests against schemas.
package tools

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
