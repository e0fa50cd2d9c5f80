package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// replyTypes are what each behaviour answers in the newest spelling.
var replyTypes = map[string]func() any{
	"/public/hello":                            func() any { return new(helloReply) },
	"/public/status":                           func() any { return new(publicStatusReply) },
	"/dms/actor/healthcheck":                   func() any { return new(outcome) },
	"/dms/node/status":                         func() any { return new(nodeStatusReply) },
	"/dms/node/peers/self":                     func() any { return new(peersSelfReply) },
	"/dms/node/peers/list":                     func() any { return new(peersListReply) },
	"/dms/node/peers/ping":                     func() any { return new(peersPingReply) },
	"/dms/node/peers/connect":                  func() any { return new(peersConnectReply) },
	"/dms/node/onboarding/status":              func() any { return new(onboardingReply) },
	"/dms/node/onboarding/onboard":             func() any { return new(onboardReply) },
	"/dms/node/onboarding/offboard":            func() any { return new(offboardReply) },
	"/dms/node/hardware/spec":                  func() any { return new(resourcesReply) },
	"/dms/node/hardware/usage":                 func() any { return new(resourcesReply) },
	"/dms/node/resources/free":                 func() any { return new(resourcesReply) },
	"/dms/node/resources/allocated":            func() any { return new(resourcesReply) },
	"/dms/node/resources/onboarded":            func() any { return new(resourcesReply) },
	deploymentBehaviours + "new":               func() any { return new(newReply) },
	deploymentBehaviours + "update":            func() any { return new(outcome) },
	deploymentBehaviours + "list":              func() any { return new(listReply) },
	deploymentBehaviours + "status":            func() any { return new(statusReply) },
	deploymentBehaviours + "manifest":          func() any { return new(manifestReply) },
	deploymentBehaviours + "info":              func() any { return new(infoReply) },
	deploymentBehaviours + "shutdown":          func() any { return new(outcome) },
	deploymentBehaviours + "prune":             func() any { return new(lowerOutcome) },
	deploymentBehaviours + "delete":            func() any { return new(lowerOutcome) },
	deploymentBehaviours + "logs":              func() any { return new(logsReply) },
	deploymentBehaviours + "logs/async":        func() any { return new(asyncLogsReply) },
	deploymentBehaviours + "logs/async/status": func() any { return new(asyncStatusReply) },
	deploymentBehaviours + "logs/async/stop":   func() any { return new(asyncStopReply) },
	"/dms/cap/list":                            func() any { return new(capListReply) },
	"/dms/cap/require/anchor":                  func() any { return new(outcome) },
	"/dms/cap/provide/anchor":                  func() any { return new(outcome) },
	"/dms/cap/revoke/anchor":                   func() any { return new(outcome) },
	"/dms/cap/revoke/broadcast":                func() any { return new(revokeBroadcastReply) },
}

type revokeBroadcastReply struct {
	OK          bool
	Error       string
	TokensCount int
}

type capListReply struct {
	OK                       bool
	Error                    string
	Roots                    []DID
	Require, Provide, Revoke TokenList
}

// checkReply says what is wrong with a reply: a member that the behaviour does not have, one of another type, or a name
// that is spelled otherwise, which Go's decoder would let pass.
func checkReply(behaviour string, message json.RawMessage) error {
	empty, found := replyTypes[behaviour]
	if !found && strings.HasSuffix(behaviour, "/allocation/logs") {
		empty, found = func() any { return new(allocationLogsReply) }, true
	}
	if !found {
		return fmt.Errorf("what %s answers is not known here", behaviour)
	}
	reply := empty()
	if err := strictly(message, reply); err != nil {
		return err
	}
	var raw any
	if err := json.Unmarshal(message, &raw); err != nil {
		return err
	}
	return checkNames("the reply", raw, reflect.TypeOf(reply))
}

func checkNames(at string, raw any, is reflect.Type) error {
	for is.Kind() == reflect.Pointer {
		is = is.Elem()
	}
	if is == reflect.TypeFor[time.Time]() || is == reflect.TypeFor[json.RawMessage]() {
		return nil
	}
	switch raw := raw.(type) {
	case []any:
		for i, one := range raw {
			if err := checkNames(fmt.Sprintf("%s[%d]", at, i), one, is.Elem()); err != nil {
				return err
			}
		}
	case map[string]any:
		for name, one := range raw {
			member := is
			if is.Kind() == reflect.Struct {
				if member = memberType(is, name); member == nil {
					return fmt.Errorf("%s has a member %q, which is spelled otherwise", at, name)
				}
			} else {
				member = is.Elem()
			}
			if err := checkNames(at+"."+name, one, member); err != nil {
				return err
			}
		}
	}
	return nil
}

// memberType is the type of the member that Go would write under exactly this name.
func memberType(is reflect.Type, name string) reflect.Type {
	for _, field := range reflect.VisibleFields(is) {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if tag == "" {
			tag = field.Name
		}
		if tag == name && !field.Anonymous {
			return field.Type
		}
	}
	return nil
}
