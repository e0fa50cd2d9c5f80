package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Ensemble is what `deployment/new` and `deployment/update` take. It is read strictly: what a DMS would skip in silence
// is an error here.
type Ensemble struct {
	Escalation   string                     `json:"escalation_strategy"`
	Allocations  map[string]Allocation      `json:"allocations"`
	Nodes        map[string]EnsembleNode    `json:"nodes"`
	Edges        []json.RawMessage          `json:"edges"`
	Supervisor   json.RawMessage            `json:"supervisor"`
	Keys         map[string]string          `json:"keys"`
	Scripts      map[string][]byte          `json:"scripts"`
	Subnet       struct{ Join bool }        `json:"subnet"`
	ExcludePeers []string                   `json:"exclude_peers"`
	Metadata     map[string]string          `json:"metadata"`
	Contracts    map[string]json.RawMessage `json:"contracts"`
}

// Allocation is one thing to run.
type Allocation struct {
	Executor  string    `json:"executor"`
	Type      string    `json:"type"`
	Resources Resources `json:"resources"`
	Execution struct {
		Type   string          `json:"type"`
		Params json.RawMessage `json:"params"`
	} `json:"execution"`
	DNSName         string            `json:"dns_name"`
	Keys            []json.RawMessage `json:"keys"`
	Provision       []string          `json:"provision"`
	HealthCheck     json.RawMessage   `json:"healthcheck"`
	Volume          []json.RawMessage `json:"volume"`
	FailureRecovery string            `json:"failure_recovery"`
	DependsOn       []string          `json:"depends_on"`
}

// EnsembleNode says what runs together, and where.
type EnsembleNode struct {
	Allocations []string `json:"allocations"`
	Ports       []struct {
		Public     int    `json:"public"`
		Private    int    `json:"private"`
		Allocation string `json:"allocation"`
	} `json:"ports"`
	Location        json.RawMessage `json:"location"`
	Peer            string          `json:"peer"`
	Redundancy      int             `json:"redundancy"`
	FailureRecovery string          `json:"failure_recovery"`
}

type dockerParams struct {
	Image            string   `json:"image"`
	Entrypoint       []string `json:"entrypoint"`
	Command          []string `json:"cmd"`
	Environment      []string `json:"environment"`
	WorkingDirectory string   `json:"working_directory"`
	RestartPolicy    string   `json:"restart_policy"`
	Privileged       bool     `json:"privileged"`
	User             string   `json:"user"`
}

type versioned struct {
	V1 *Ensemble `json:"v1"`
}

// check repeats what the notes say a client should see to.
func (e *Ensemble) check(peer string) error {
	if e == nil || len(e.Allocations) == 0 {
		return errors.New("the ensemble has no allocation")
	}
	if !slices.Contains([]string{"redeploy", "teardown"}, e.Escalation) {
		return fmt.Errorf("no escalation strategy %q", e.Escalation)
	}
	placed := map[string]int{}
	for name, node := range e.Nodes {
		if err := node.check(name, peer); err != nil {
			return err
		}
		for _, one := range node.Allocations {
			placed[one]++
		}
	}
	for name, allocation := range e.Allocations {
		if err := allocation.check(name); err != nil {
			return err
		}
		if placed[name] != 1 {
			return fmt.Errorf("allocation %q is placed on %d nodes", name, placed[name])
		}
	}
	if len(placed) != len(e.Allocations) {
		return errors.New("a node names an allocation that is not there")
	}
	return nil
}

func (n EnsembleNode) check(name, peer string) error {
	if strings.Contains(name, ".") {
		return fmt.Errorf("the node name %q holds a dot", name)
	}
	if n.Peer != peer {
		return fmt.Errorf("node %q is for the peer %q", name, n.Peer)
	}
	if !slices.Contains([]string{"stay_down", "restart", "redeploy"}, n.FailureRecovery) {
		return fmt.Errorf("node %q has no failure recovery %q", name, n.FailureRecovery)
	}
	for _, port := range n.Ports {
		if port.Public != 0 && (port.Public < 1025 || port.Public > 65535) {
			return fmt.Errorf("node %q has no public port %d", name, port.Public)
		}
		if !slices.Contains(n.Allocations, port.Allocation) {
			return fmt.Errorf("a port of node %q is for the allocation %q", name, port.Allocation)
		}
	}
	return nil
}

func (a Allocation) check(name string) error {
	var params dockerParams
	switch {
	case name == "" || strings.Contains(name, "."):
		return fmt.Errorf("no allocation can be named %q", name)
	case a.Executor != "docker" || a.Execution.Type != a.Executor:
		return fmt.Errorf("allocation %q has the executor %q for %q", name, a.Executor, a.Execution.Type)
	case a.Type != "service" && a.Type != "task":
		return fmt.Errorf("allocation %q has the type %q", name, a.Type)
	case a.Resources.CPU.Cores < 1 || a.Resources.CPU.ClockSpeed <= 0 || a.Resources.RAM.Size <= 0:
		return fmt.Errorf("allocation %q asks for no processor or memory", name)
	case !slices.Contains([]string{"stay_down", "one_for_one", "one_for_all", "rest_for_one"}, a.FailureRecovery):
		return fmt.Errorf("allocation %q has no failure recovery %q", name, a.FailureRecovery)
	}
	if err := strictly(a.Execution.Params, &params); err != nil {
		return fmt.Errorf("allocation %q: %w", name, err)
	}
	if params.Image == "" {
		return fmt.Errorf("allocation %q has no image", name)
	}
	return nil
}
