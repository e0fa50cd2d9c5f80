package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Call is one request to a node.
type Call struct {
	key       Key
	link      *Link
	to        peer.AddrInfo
	behaviour string
	message   []byte
	timeout   time.Duration
	grant     *Token
	spoil     string
}

var errNoReply = errors.New("no reply")

// Run sends the request and returns the payload of the verified reply, or errNoReply.
func (c Call) Run(report func(any)) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	self, err := c.key.Handle(fmt.Sprintf("user-%d", time.Now().UnixNano()))
	if err != nil {
		return nil, err
	}
	request, err := c.request(self)
	if err != nil {
		return nil, err
	}
	replies := make(chan json.RawMessage, 1)
	c.link.Listen(self.Address.Inbox, func(from peer.ID, body []byte) {
		message, err := c.accept(request, from, body)
		if err != nil {
			report(event{Event: "refused", Peer: from.String(), Detail: err.Error()})
			return
		}
		select {
		case replies <- message:
		default:
			report(event{Event: "refused", Peer: from.String(), Detail: "a second reply"})
		}
	}, func(from peer.ID, err error) {
		report(event{Event: "refused", Peer: from.String(), Detail: err.Error()})
	})
	if err := c.link.host.Connect(ctx, c.to); err != nil {
		return nil, err
	}
	if err := c.link.Send(ctx, request); err != nil {
		return nil, err
	}
	select {
	case message := <-replies:
		return message, nil
	case <-ctx.Done():
		return nil, errNoReply
	}
}

func (c Call) request(self Handle) (Envelope, error) {
	callee, err := keyOfPeer(c.to.ID)
	if err != nil {
		return Envelope{}, err
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Envelope{}, err
	}
	now := uint64(time.Now().UnixNano())
	request := Envelope{
		To:        Handle{ID: actorOf(callee), DID: didOf(callee), Address: Address{Host: c.to.ID.String(), Inbox: "root"}},
		Behaviour: c.behaviour, From: self, Nonce: now, Message: c.message,
		Options: Options{Expire: now + uint64(max(c.timeout, time.Minute)), Continuation: "/dms/actor/replyto/" + hex.EncodeToString(random[:])},
	}
	if c.spoil == "expired" {
		request.Options.Expire = now - 1
	}
	if c.spoil == "host" {
		request.From.Address.Host = request.To.Address.Host
	}
	if request.Capabilities, err = c.tokens(request); err != nil {
		return Envelope{}, err
	}
	if c.spoil == "no-cap" {
		request.Capabilities = nil
	}
	if request, err = request.Sign(c.key); err != nil {
		return Envelope{}, err
	}
	if c.spoil == "signature" {
		request.Signature[0] ^= 1
	}
	return request, nil
}

func (c Call) tokens(request Envelope) ([]byte, error) {
	var list TokenList
	expire := request.Options.Expire
	if c.grant != nil {
		token, err := invocation(c.key, request.To.DID, c.behaviour, expire, c.grant)
		if err != nil {
			return nil, err
		}
		list.Tokens = append(list.Tokens, token)
	}
	own, err := invocation(c.key, request.To.DID, c.behaviour, expire, nil)
	if err != nil {
		return nil, err
	}
	back, err := Claims{Action: "delegate", Issuer: c.key.DID(), Subject: request.To.DID, Audience: c.key.DID(),
		Capabilities: []string{request.Options.Continuation}, Expire: expire, Depth: 1}.Sign(c.key)
	if err != nil {
		return nil, err
	}
	list.Tokens = append(list.Tokens, own, back)
	return json.Marshal(list)
}

// accept checks a reply as an actor checks any message: a DMS client, too, answers to nobody without a token.
func (c Call) accept(request Envelope, from peer.ID, body []byte) (json.RawMessage, error) {
	var reply Envelope
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, err
	}
	switch {
	case from != c.to.ID || reply.From.Address.Host != from.String():
		return nil, fmt.Errorf("from %s on a stream of %s", reply.From.Address.Host, from)
	case reply.To.ID != request.From.ID:
		return nil, fmt.Errorf("addressed to %s", reply.To.ID.Public)
	case reply.From.ID != request.To.ID:
		return nil, fmt.Errorf("signed by %s", reply.From.ID.Public)
	case reply.Behaviour != request.Options.Continuation:
		return nil, fmt.Errorf("for %s", reply.Behaviour)
	}
	now := uint64(time.Now().UnixNano())
	signer, err := reply.Verify(now)
	if err != nil {
		return nil, err
	}
	tokens, err := parseTokens(reply.Capabilities)
	if err != nil {
		return nil, err
	}
	if err := (Trust{self: c.key.DID()}).authorise(tokens, signer, reply.Behaviour, now); err != nil {
		return nil, fmt.Errorf("the reply has no right to the continuation: %w", err)
	}
	return reply.Message, nil
}
