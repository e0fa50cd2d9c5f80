package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Caller asks one node over one connection.
type Caller struct {
	key    Key
	link   *Link
	to     peer.AddrInfo
	self   Handle
	grant  *Token
	report func(any)
	nonce  atomic.Uint64
	// Connections to the node that there ever were.
	opened  atomic.Int64
	last    *Frame
	gossip  *pubsub.PubSub
	topics  map[string]*pubsub.Topic
	mutex   sync.Mutex
	awaited map[string]awaited
}

type awaited struct {
	request Envelope
	reply   chan json.RawMessage
}

// Request is one call. Spoiled ones are sent and not waited for.
type Request struct {
	Behaviour string          `json:"behaviour"`
	Message   json.RawMessage `json:"message"`
	// How long the reply is waited for, in milliseconds.
	Wait int64 `json:"wait"`
	// How long the request lives, in milliseconds.
	Lives int64  `json:"lives"`
	Spoil string `json:"spoil"`
	Times int    `json:"times"`
	// To all on this topic, and to nobody in particular.
	Topic string `json:"topic"`
}

var errNoReply = errors.New("no reply")

// NewCaller connects to a node.
func NewCaller(key Key, link *Link, to peer.AddrInfo, grant *Token, report func(any)) (*Caller, error) {
	self, err := key.Handle(fmt.Sprintf("user-%d", time.Now().UnixNano()))
	if err != nil {
		return nil, err
	}
	c := &Caller{key: key, link: link, to: to, self: self, grant: grant, report: report, awaited: map[string]awaited{}}
	c.nonce.Store(uint64(time.Now().UnixNano()))
	link.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, conn network.Conn) {
		if conn.RemotePeer() == to.ID {
			c.opened.Add(1)
		}
	}})
	link.Listen(self.Address.Inbox, c.receive, func(from peer.ID, err error) { c.refuse(from, err) })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return c, link.host.Connect(ctx, to)
}

func (c *Caller) refuse(from peer.ID, err error) {
	c.report(event{Event: "refused", Peer: from.String(), Detail: err.Error()})
}

// Do sends the request and returns the payload of the verified reply, or errNoReply. Spoiled ones give nothing.
func (c *Caller) Do(request Request) (json.RawMessage, error) {
	wait := time.Duration(request.Wait) * time.Millisecond
	if wait <= 0 {
		wait = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	lives := time.Duration(request.Lives) * time.Millisecond
	if lives <= 0 {
		lives = max(wait, time.Minute)
	}
	envelope, err := c.envelope(request, lives)
	if err != nil {
		return nil, err
	}
	if request.Topic != "" {
		return nil, c.broadcast(ctx, envelope, request.Spoil)
	}
	var reply chan json.RawMessage
	if request.Spoil == "" || request.Spoil == "slow" {
		reply = c.await(envelope)
	}
	for range max(request.Times, 1) {
		if err := c.send(ctx, envelope, request.Spoil); err != nil {
			return nil, err
		}
	}
	if reply == nil {
		return nil, nil
	}
	select {
	case message := <-reply:
		return message, nil
	case <-ctx.Done():
		c.forget(envelope)
		return nil, errNoReply
	}
}

func (c *Caller) send(ctx context.Context, envelope Envelope, how string) error {
	if how == "again" && c.last != nil {
		return c.link.SendFrame(ctx, envelope.To.Address, *c.last)
	}
	frame, err := spoiled(envelope, how, c.key)
	if err != nil {
		return err
	}
	c.last = &frame
	return c.link.SendFrame(ctx, envelope.To.Address, frame)
}

func (c *Caller) envelope(request Request, lives time.Duration) (Envelope, error) {
	callee, err := keyOfPeer(c.to.ID)
	if err != nil {
		return Envelope{}, err
	}
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return Envelope{}, err
	}
	envelope := Envelope{Behaviour: request.Behaviour, From: c.self, Nonce: c.nonce.Add(1), Message: request.Message,
		Options: Options{Expire: uint64(time.Now().Add(lives).UnixNano()), Topic: request.Topic}}
	if request.Topic == "" {
		envelope.To = Handle{ID: actorOf(callee), DID: didOf(callee), Address: Address{Host: c.to.ID.String(), Inbox: "root"}}
		envelope.Options.Continuation = "/dms/actor/replyto/" + hex.EncodeToString(random[:])
	}
	envelope.Capabilities, err = c.tokens(envelope)
	return envelope, err
}

func (c *Caller) tokens(request Envelope) ([]byte, error) {
	if request.Options.Topic != "" {
		return c.broadcastTokens(request)
	}
	var list TokenList
	expire := request.Options.Expire
	if c.grant != nil {
		token, err := invocation(c.key, request.To.DID, request.Behaviour, expire, c.grant)
		if err != nil {
			return nil, err
		}
		list.Tokens = append(list.Tokens, token)
	}
	own, err := invocation(c.key, request.To.DID, request.Behaviour, expire, nil)
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

func (c *Caller) await(request Envelope) chan json.RawMessage {
	reply := make(chan json.RawMessage, 1)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.awaited[request.Options.Continuation] = awaited{request, reply}
	return reply
}

func (c *Caller) forget(request Envelope) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.awaited, request.Options.Continuation)
}

// receive takes a reply for the call that awaits it, once. Nobody awaits one to a spoiled request.
func (c *Caller) receive(from peer.ID, body []byte) {
	var reply Envelope
	if err := json.Unmarshal(body, &reply); err != nil {
		c.refuse(from, err)
		return
	}
	c.mutex.Lock()
	one, found := c.awaited[reply.Behaviour]
	delete(c.awaited, reply.Behaviour)
	c.mutex.Unlock()
	if !found {
		c.refuse(from, fmt.Errorf("nobody awaits %s", reply.Behaviour))
		return
	}
	if err := c.check(one.request, from, reply); err != nil {
		c.refuse(from, err)
		return
	}
	one.reply <- reply.Message
}

// check does what an actor does with any message: a DMS client, too, answers to nobody without a token.
func (c *Caller) check(request Envelope, from peer.ID, reply Envelope) error {
	switch {
	case from != c.to.ID || reply.From.Address.Host != from.String():
		return fmt.Errorf("from %s on a stream of %s", reply.From.Address.Host, from)
	case reply.To.ID != request.From.ID:
		return fmt.Errorf("addressed to %s", reply.To.ID.Public)
	case reply.From.ID != request.To.ID:
		return fmt.Errorf("signed by %s", reply.From.ID.Public)
	}
	now := uint64(time.Now().UnixNano())
	signer, err := reply.Verify(now)
	if err != nil {
		return err
	}
	tokens, err := parseTokens(reply.Capabilities)
	if err != nil {
		return err
	}
	if err := (Trust{self: c.key.DID()}).authorise(tokens, signer, reply.Behaviour, now); err != nil {
		return fmt.Errorf("the reply has no right to the continuation: %w", err)
	}
	return nil
}
