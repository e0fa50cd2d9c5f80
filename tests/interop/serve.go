package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Node answers behaviours as a DMS does: whoever is not allowed is not answered.
type Node struct {
	key     Key
	self    Handle
	roots   []DID
	link    *Link
	nonce   atomic.Uint64
	dropped atomic.Uint64
	report  func(any)
}

// Behaviour turns the payload of a request into the payload of its reply.
type Behaviour func(n *Node, request json.RawMessage) (any, error)

var behaviours = map[string]Behaviour{
	"/dms/node/peers/self": peersSelf,
}

func peersSelf(n *Node, _ json.RawMessage) (any, error) {
	var addresses []string
	for _, one := range n.link.host.Addrs() {
		addresses = append(addresses, one.String())
	}
	return struct {
		ID     string `json:"id"`
		Listen string `json:"listen_addr"`
	}{n.self.Address.Host, strings.Join(addresses, ", ")}, nil
}

type drop struct {
	reason string
	cause  error
}

func (n *Node) receive(from peer.ID, body []byte) {
	envelope, failed := n.accept(from, body)
	if failed != nil {
		n.drop(from, *failed)
		return
	}
	reply, err := behaviours[envelope.Behaviour](n, envelope.Message)
	if err != nil {
		n.drop(from, drop{"BadRequest", err})
		return
	}
	if envelope.Options.Continuation == "" {
		n.report(event{Event: "done", Behaviour: envelope.Behaviour, Peer: from.String()})
		return
	}
	if err := n.reply(envelope, reply); err != nil {
		n.report(event{Event: "unanswered", Behaviour: envelope.Behaviour, Peer: from.String(), Detail: err.Error()})
		return
	}
	n.report(event{Event: "answered", Behaviour: envelope.Behaviour, Peer: from.String()})
}

func (n *Node) drop(from peer.ID, why drop) {
	n.report(event{Event: "dropped", Reason: why.reason, Detail: why.cause.Error(), Peer: from.String(),
		Dropped: n.dropped.Add(1)})
}

func (n *Node) accept(from peer.ID, body []byte) (Envelope, *drop) {
	var envelope Envelope
	if err := json.Unmarshal(body, &envelope); err != nil {
		return envelope, &drop{"Undecodable", err}
	}
	if envelope.To.ID != n.self.ID {
		return envelope, &drop{"NotForMe", fmt.Errorf("addressed to %s", envelope.To.ID.Public)}
	}
	if envelope.From.Address.Host != from.String() {
		return envelope, &drop{"ForeignHost", fmt.Errorf("says it comes from %s", envelope.From.Address.Host)}
	}
	now := uint64(time.Now().UnixNano())
	signer, err := envelope.Verify(now)
	if err != nil {
		return envelope, &drop{"Unverified", err}
	}
	if _, known := behaviours[envelope.Behaviour]; !known {
		return envelope, &drop{"UnknownBehaviour", fmt.Errorf("%s", envelope.Behaviour)}
	}
	tokens, err := parseTokens(envelope.Capabilities)
	if err != nil {
		return envelope, &drop{"Undecodable", err}
	}
	if err := (Trust{self: n.key.DID(), roots: n.roots}).authorise(tokens, signer, envelope.Behaviour, now); err != nil {
		return envelope, &drop{"NotAuthorised", err}
	}
	return envelope, nil
}

func (n *Node) reply(request Envelope, payload any) error {
	message, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	reply := Envelope{To: request.From, Behaviour: request.Options.Continuation, From: request.To, Nonce: n.nonce.Add(1),
		Options: Options{Expire: request.Options.Expire}, Message: message}
	if reply.Capabilities, err = n.replyTokens(request, reply); err != nil {
		return err
	}
	if reply, err = reply.Sign(n.key); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.link.Send(ctx, reply)
}

// replyTokens makes what lets us call the continuation: an invocation chained on each delegation of it that the request
// brought, and one that nobody backs.
func (n *Node) replyTokens(request, reply Envelope) ([]byte, error) {
	given, err := parseTokens(request.Capabilities)
	if err != nil {
		return nil, err
	}
	caller, err := keyOfActor(request.From.ID)
	if err != nil {
		return nil, err
	}
	var list TokenList
	for i := range given {
		one := given[i].DMS
		if one.Action == "delegate" && one.Subject == n.key.DID() && anyImplies(one.Capabilities, reply.Behaviour) {
			token, err := invocation(n.key, didOf(caller), reply.Behaviour, reply.Options.Expire, &given[i])
			if err != nil {
				return nil, err
			}
			list.Tokens = append(list.Tokens, token)
		}
	}
	own, err := invocation(n.key, didOf(caller), reply.Behaviour, reply.Options.Expire, nil)
	if err != nil {
		return nil, err
	}
	list.Tokens = append(list.Tokens, own)
	return json.Marshal(list)
}

func invocation(key Key, audience DID, capability string, expire uint64, chain *Token) (Token, error) {
	return Claims{Action: "invoke", Issuer: key.DID(), Subject: key.DID(), Audience: audience,
		Capabilities: []string{capability}, Expire: expire, Chain: chain}.Sign(key)
}
