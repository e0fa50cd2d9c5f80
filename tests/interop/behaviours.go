package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Ask is one request that was let in.
type Ask struct {
	Envelope
	behaviour Behaviour
	sender    DID
	now       time.Time
}

// Behaviour turns a request into the payload of its reply. An error means that the payload is none of this behaviour.
type Behaviour func(*Node, Ask) (any, error)

// decode reads the payload, and takes no member that the behaviour does not have. None at all is an empty one.
func (a Ask) decode(into any) error {
	if len(a.Message) == 0 {
		return nil
	}
	return strictly(a.Message, into)
}

func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return fmt.Errorf("more follows after %d bytes", decoder.InputOffset())
	}
	return nil
}

// left is how long the message lives on.
func (a Ask) left() time.Duration { return time.Unix(0, int64(a.Options.Expire)).Sub(a.now) }

const deploymentBehaviours = "/dms/node/deployment/"

var behaviours = map[string]Behaviour{
	"/public/hello":                            hello,
	"/public/status":                           publicStatus,
	"/dms/actor/healthcheck":                   healthcheck,
	"/dms/node/status":                         nodeStatus,
	"/dms/node/peers/self":                     peersSelf,
	"/dms/node/peers/list":                     peersList,
	"/dms/node/peers/ping":                     peersPing,
	"/dms/node/peers/connect":                  peersConnect,
	"/dms/node/onboarding/status":              onboardingStatus,
	"/dms/node/resources/free":                 resourcesFree,
	"/dms/node/resources/allocated":            resourcesAllocated,
	"/dms/node/resources/onboarded":            resourcesOnboarded,
	deploymentBehaviours + "new":               deploymentNew,
	deploymentBehaviours + "update":            deploymentUpdate,
	deploymentBehaviours + "list":              deploymentList,
	deploymentBehaviours + "status":            deploymentStatus,
	deploymentBehaviours + "manifest":          deploymentManifest,
	deploymentBehaviours + "info":              deploymentInfo,
	deploymentBehaviours + "shutdown":          deploymentShutdown,
	deploymentBehaviours + "prune":             deploymentPrune,
	deploymentBehaviours + "delete":            deploymentDelete,
	deploymentBehaviours + "logs":              deploymentLogs,
	deploymentBehaviours + "logs/async":        asyncLogs,
	deploymentBehaviours + "logs/async/status": asyncLogsStatus,
	deploymentBehaviours + "logs/async/stop":   asyncLogsStop,
}

// What releases of the old spelling do not have.
var newer = []string{
	deploymentBehaviours + "info",
	deploymentBehaviours + "logs/async",
	deploymentBehaviours + "logs/async/status",
	deploymentBehaviours + "logs/async/stop",
}

// find gives the behaviour at a path, or nil.
func (n *Node) find(path string) Behaviour {
	if rest, found := strings.CutPrefix(path, "/dms/ensemble/"); found {
		id, found := strings.CutSuffix(rest, "/allocation/logs")
		if !found || !n.deployments.running(id, time.Now()) {
			return nil
		}
		return func(n *Node, ask Ask) (any, error) { return allocationLogs(n, ask, id) }
	}
	if n.old && slices.Contains(newer, path) {
		return nil
	}
	return behaviours[path]
}
