package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// implies is the path algebra: equal, or a prefix that ends where a segment ends.
func implies(granted, wanted string) bool {
	return granted == wanted || granted == "/" || strings.HasPrefix(wanted, granted+"/")
}

func anyImplies(granted []string, wanted string) bool {
	return slices.ContainsFunc(granted, func(one string) bool { return implies(one, wanted) })
}

// verify checks a token and its chain: expiry, depth, linkage, attenuation, signatures. `below` is the number of links
// that hang below this one.
func (t Token) verify(now uint64, below uint64) error {
	if t.DMS == nil {
		return errors.New("a link of the chain is empty")
	}
	c := *t.DMS
	if c.Expire < now {
		return fmt.Errorf("the token of %s has expired", c.Issuer.URI)
	}
	if c.Depth > 0 && below > c.Depth {
		return fmt.Errorf("the token of %s is delegated deeper than %d", c.Issuer.URI, c.Depth)
	}
	// Of a revocation only expiry and signature count.
	if c.Chain != nil && c.Action != "revoke" {
		if err := c.allowedBy(*c.Chain, now, below); err != nil {
			return err
		}
	}
	public, err := keyOfDID(c.Issuer)
	if err != nil {
		return err
	}
	signed, err := c.signedBytes()
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, signed, c.Signature) {
		return fmt.Errorf("the signature of the token of %s is wrong", c.Issuer.URI)
	}
	return nil
}

func (c Claims) allowedBy(chain Token, now uint64, below uint64) error {
	if err := chain.verify(now, below+1); err != nil {
		return err
	}
	parent := *chain.DMS
	switch {
	case parent.Action != "delegate":
		return fmt.Errorf("a token of %s is chained on a token to %s", c.Issuer.URI, parent.Action)
	case parent.Expire < c.Expire:
		return fmt.Errorf("the token of %s outlives the one it is chained on", c.Issuer.URI)
	case parent.Subject != c.Issuer:
		return fmt.Errorf("%s uses a token made for %s", c.Issuer.URI, parent.Subject.URI)
	case parent.Audience != DID{} && parent.Audience != c.Audience:
		return fmt.Errorf("a token for the audience %s is passed on for %s", parent.Audience.URI, c.Audience.URI)
	}
	for _, one := range c.Capabilities {
		if !anyImplies(parent.Capabilities, one) {
			return fmt.Errorf("%s was not given %s", c.Issuer.URI, one)
		}
	}
	for _, one := range c.Topics {
		if !anyImplies(parent.Topics, one) {
			return fmt.Errorf("%s was not given the topic %s", c.Issuer.URI, one)
		}
	}
	return nil
}

// anchored says whether one of `anchors` issued this token or a link above it.
func (t Token) anchored(anchors []DID) bool {
	for link := &t; link != nil && link.DMS != nil; link = link.DMS.Chain {
		if slices.Contains(anchors, link.DMS.Issuer) {
			return true
		}
	}
	return false
}

// invokes says why this token does not let `subject` invoke `capability` at `audience`, or nil.
func (t Token) invokes(subject, audience DID, capability string) error {
	c := *t.DMS
	switch {
	case c.Action != "invoke":
		return fmt.Errorf("a token to %s invokes nothing", c.Action)
	case c.Subject != subject:
		return fmt.Errorf("a token for %s was presented by %s", c.Subject.URI, subject.URI)
	case c.Audience != DID{} && c.Audience != audience:
		return fmt.Errorf("a token for the audience %s was presented to %s", c.Audience.URI, audience.URI)
	case !anyImplies(c.Capabilities, capability):
		return fmt.Errorf("no token for %s", capability)
	}
	return nil
}

// broadcasts says why this token does not let `subject` broadcast `capability` on `topic`, or nil.
func (t Token) broadcasts(subject DID, topic, capability string) error {
	c := *t.DMS
	switch {
	case c.Action != "broadcast":
		return fmt.Errorf("a token to %s broadcasts nothing", c.Action)
	case c.Subject != subject:
		return fmt.Errorf("a token for %s was presented by %s", c.Subject.URI, subject.URI)
	case c.Audience != DID{}:
		return fmt.Errorf("a broadcast is for all, and this token for %s", c.Audience.URI)
	case !anyImplies(c.Topics, topic):
		return fmt.Errorf("no token for the topic %s", topic)
	case !anyImplies(c.Capabilities, capability):
		return fmt.Errorf("no token for %s", capability)
	}
	return nil
}

// authorise looks for one token in `list` that lets `subject` invoke `capability` at this node.
func (t Trust) authorise(list []Token, subject DID, capability string, now uint64) error {
	return t.anyAllows(list, "invoke", now, func(token Token) error { return token.invokes(subject, t.self, capability) })
}

// authoriseBroadcast looks for one token in `list` that lets `subject` broadcast `capability` on `topic`.
func (t Trust) authoriseBroadcast(list []Token, subject DID, topic, capability string, now uint64) error {
	return t.anyAllows(list, "broadcast", now, func(token Token) error { return token.broadcasts(subject, topic, capability) })
}

// anyAllows looks for one token that allows what is asked for and is anchored at the node itself, at a root, or admitted
// by a require anchor. The error tells of the token that came nearest: a self-signed one without an anchor is the least
// telling.
func (t Trust) anyAllows(list []Token, action string, now uint64, allows func(Token) error) error {
	anchors := append([]DID{t.self}, t.roots...)
	failure := errors.New("no token at all")
	for _, token := range list {
		if token.DMS.Action != action {
			continue
		}
		err := t.verify(token, now)
		if err == nil {
			err = allows(token)
		}
		admits := func(anchor Token) bool { return anchor.admits(token) }
		if err == nil && !token.anchored(anchors) && !slices.ContainsFunc(t.require, admits) {
			err = fmt.Errorf("no link of the token of %s is issued by a root", token.DMS.Issuer.URI)
		}
		if err == nil {
			return nil
		}
		failure = err
	}
	return failure
}
