package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What serving a call costs this node without the network: beside what the same signatures cost, made bare.
//
//	go test -run '^$' -bench Serving
func BenchmarkServing(b *testing.B) {
	caller, node, request := aCall(b)
	from, err := peer.Decode(caller.self.Address.Host)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			body, err := json.Marshal(request)
			if err != nil {
				b.Fatal(err)
			}
			ask, dropped := node.accept(from, body)
			if dropped != nil {
				b.Fatal(dropped.reason, dropped.cause)
			}
			reply := Envelope{To: ask.From, Behaviour: ask.Options.Continuation, From: ask.To, Options: ask.Options,
				Message: []byte(`{"id":"x"}`)}
			if reply.Capabilities, err = node.replyTokens(ask.Envelope, reply); err != nil {
				b.Fatal(err)
			}
			if _, err = reply.Sign(node.key); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		public, private, _ := ed25519.GenerateKey(nil)
		message := make([]byte, 512)
		for b.Loop() {
			var signature []byte
			for range 3 {
				signature = ed25519.Sign(private, message)
			}
			for range 2 {
				if !ed25519.Verify(public, message, signature) {
					b.Fatal("wrong")
				}
			}
		}
	})
}

func aCall(b *testing.B) (*Caller, *Node, Envelope) {
	b.Helper()
	key := func() Key {
		seed := make([]byte, 32)
		_, _ = rand.Read(seed)
		key, err := KeyFromSeed(hex.EncodeToString(seed))
		if err != nil {
			b.Fatal(err)
		}
		return key
	}
	to, from := key(), key()
	self, err := to.Handle("root")
	if err != nil {
		b.Fatal(err)
	}
	own, err := from.Handle("user-1")
	if err != nil {
		b.Fatal(err)
	}
	id, err := peer.Decode(self.Address.Host)
	if err != nil {
		b.Fatal(err)
	}
	caller := &Caller{key: from, to: peer.AddrInfo{ID: id}, self: own}
	node := &Node{key: to, self: self, roots: []DID{caller.key.DID()}}
	request, err := caller.envelope(Request{Behaviour: "/dms/node/peers/self"}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	if request, err = request.Sign(caller.key); err != nil {
		b.Fatal(err)
	}
	return caller, node, request
}
