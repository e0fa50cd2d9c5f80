package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Node answers behaviours as a DMS does: whoever is not allowed is not answered.
type Node struct {
	key         Key
	self        Handle
	roots       []DID
	link        *Link
	nonce       atomic.Uint64
	dropped     atomic.Uint64
	report      func(any)
	old         bool
	deployments *Deployments
	lies        Lies
}

type drop struct {
	reason string
	cause  error
}

func (n *Node) receive(from peer.ID, body []byte) {
	ask, failed := n.accept(from, body)
	if failed != nil {
		n.drop(from, *failed)
		return
	}
	reply, err := ask.behaviour(n, ask)
	if err != nil {
		n.drop(from, drop{"BadRequest", fmt.Errorf("%s: %w", ask.Behaviour, err)})
		return
	}
	if n.old {
		reply = inOldSpelling(reply)
	}
	done := event{Event: "answered", Behaviour: ask.Behaviour, Peer: from.String()}
	if ask.Options.Continuation == "" {
		done.Event = "done"
	} else if err := n.reply(ask.Envelope, reply); err != nil {
		done.Event, done.Detail = "unanswered", err.Error()
	}
	n.report(done)
}

func (n *Node) drop(from peer.ID, why drop) {
	n.report(event{Event: "dropped", Reason: why.reason, Detail: why.cause.Error(), Peer: from.String(),
		Dropped: n.dropped.Add(1)})
}

func (n *Node) accept(from peer.ID, body []byte) (Ask, *drop) {
	var ask Ask
	if err := json.Unmarshal(body, &ask.Envelope); err != nil {
		return ask, &drop{"Undecodable", err}
	}
	if ask.To.ID != n.self.ID {
		return ask, &drop{"NotForMe", fmt.Errorf("addressed to %s", ask.To.ID.Public)}
	}
	if ask.From.Address.Host != from.String() {
		return ask, &drop{"ForeignHost", fmt.Errorf("says it comes from %s", ask.From.Address.Host)}
	}
	ask.now = time.Now()
	now := uint64(ask.now.UnixNano())
	signer, err := ask.Verify(now)
	if err != nil {
		return ask, &drop{"Unverified", err}
	}
	ask.sender = signer
	if ask.behaviour = n.find(ask.Behaviour); ask.behaviour == nil {
		return ask, &drop{"UnknownBehaviour", fmt.Errorf("%s", ask.Behaviour)}
	}
	tokens, err := parseTokens(ask.Capabilities)
	if err != nil {
		return ask, &drop{"Undecodable", err}
	}
	if err := n.trust().authorise(tokens, signer, ask.Behaviour, now); err != nil {
		return ask, &drop{"NotAuthorised", err}
	}
	return ask, nil
}

func (n *Node) trust() Trust { return Trust{self: n.key.DID(), roots: n.roots} }

// reply sends what was asked for, after the lie that was ordered, if one was.
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := n.lie(ctx, reply); err != nil {
		return err
	}
	if reply, err = reply.Sign(n.key); err != nil {
		return err
	}
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
