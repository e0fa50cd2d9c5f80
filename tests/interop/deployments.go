package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// State of a deployment, by its number on the wire.
type State int

const (
	preparing State = iota
	generating
	committing
	provisioning
	running
	failed
	shuttingDown
	completed
)

func (s State) String() string {
	return [...]string{"Preparing", "Generating", "Committing", "Provisioning", "Running", "Failed", "ShuttingDown",
		"Completed"}[s]
}

// Deployment is one that is played: nothing runs, but its state goes the way of a real one.
type Deployment struct {
	id                string
	ensemble          *Ensemble
	created, deadline time.Time
	updated, stopped  time.Time
	jobs              map[jobKey]*logJob
}

// Deployments are all that a node knows. Each step of one takes `pace`.
type Deployments struct {
	mutex    sync.Mutex
	pace     time.Duration
	page     int
	logBytes int
	all      []*Deployment
}

// state follows from the time alone.
func (d *Deployment) state(now time.Time, pace time.Duration) State {
	switch {
	case !d.stopped.IsZero() && now.Sub(d.stopped) < pace:
		return shuttingDown
	case !d.stopped.IsZero():
		return completed
	}
	ready := d.created.Add(time.Duration(running) * pace)
	if ready.After(d.deadline) && now.After(d.deadline) {
		return failed
	}
	return min(State(now.Sub(d.created)/pace), running)
}

func (all *Deployments) setPace(pace time.Duration) {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	all.pace = pace
}

func (all *Deployments) get(id string) *Deployment {
	for _, one := range all.all {
		if one.id == id {
			return one
		}
	}
	return nil
}

func (all *Deployments) running(id string, now time.Time) bool {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one := all.get(id)
	return one != nil && one.state(now, all.pace) == running
}

func unknownDeployment(id string) string {
	return fmt.Sprintf("failed to get deployment %q: not found", id)
}

func newID(peer string) (string, error) {
	var unique [16]byte
	if _, err := rand.Read(unique[:]); err != nil {
		return "", err
	}
	digest := sha256.Sum256(append([]byte(peer), unique[:]...))
	return hex.EncodeToString(digest[:]), nil
}

func deploymentNew(n *Node, ask Ask) (any, error) {
	var request struct{ Ensemble versioned }
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	if ask.left() < 59*time.Second {
		return newReply{Status: "ERROR", Error: "requested deployment time too short"}, nil
	}
	if err := request.Ensemble.V1.check(n.self.Address.Host); err != nil {
		return newReply{Status: "ERROR", Error: err.Error()}, nil
	}
	id, err := newID(n.self.Address.Host)
	if err != nil {
		return nil, err
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	all.all = append(all.all, &Deployment{id: id, ensemble: request.Ensemble.V1, created: ask.now, updated: ask.now,
		deadline: ask.now.Add(ask.left() - 15*time.Second), jobs: map[jobKey]*logJob{}})
	return newReply{Status: "OK", EnsembleID: id}, nil
}

func deploymentUpdate(n *Node, ask Ask) (any, error) {
	var request struct {
		EnsembleID string
		Ensemble   versioned
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	if ask.left() < 118*time.Second {
		return outcome{Error: "requested deployment time too short"}, nil
	}
	if err := request.Ensemble.V1.check(n.self.Address.Host); err != nil {
		return outcome{Error: err.Error()}, nil
	}
	return n.whileRunning(ask, request.EnsembleID, func(one *Deployment) {
		one.ensemble, one.updated = request.Ensemble.V1, ask.now
	}), nil
}

func deploymentShutdown(n *Node, ask Ask) (any, error) {
	var request struct{ ID string }
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	return n.whileRunning(ask, request.ID, func(one *Deployment) { one.stopped, one.updated = ask.now, ask.now }), nil
}

func (n *Node) whileRunning(ask Ask, id string, change func(*Deployment)) outcome {
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one := all.get(id)
	switch {
	case one == nil:
		return outcome{Error: "failed to get orchestrator"}
	case one.state(ask.now, all.pace) != running:
		return outcome{Error: "deployment is not running"}
	}
	change(one)
	return outcome{OK: true}
}

func deploymentDelete(n *Node, ask Ask) (any, error) {
	var request struct {
		ID string `json:"orchestrator_id"`
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	if all.get(request.ID) == nil {
		return lowerOutcome{Error: unknownDeployment(request.ID)}, nil
	}
	all.all = slices.DeleteFunc(all.all, func(one *Deployment) bool { return one.id == request.ID })
	return lowerOutcome{OK: true}, nil
}

func deploymentPrune(n *Node, ask Ask) (any, error) {
	var request struct {
		Before string `json:"before"`
		All    bool   `json:"all"`
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	before := ask.now
	if !request.All {
		var err error
		if before, err = pastTime(request.Before, ask.now); err != nil {
			return lowerOutcome{Error: err.Error()}, nil
		}
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	all.all = slices.DeleteFunc(all.all, func(one *Deployment) bool {
		state := one.state(ask.now, all.pace)
		return (state == failed || state == completed) && one.created.Before(before)
	})
	return lowerOutcome{OK: true}, nil
}

// pastTime reads days (`7d`), a Go duration, or one of three forms of a date.
func pastTime(text string, now time.Time) (time.Time, error) {
	var days int
	if rest, found := strings.CutSuffix(text, "d"); found {
		if _, err := fmt.Sscanf(rest, "%d", &days); err == nil {
			return now.AddDate(0, 0, -days), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if date, err := time.Parse(layout, text); err == nil {
			return date, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}
