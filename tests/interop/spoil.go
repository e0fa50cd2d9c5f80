package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"
)

// What can be made wrong with a message, each in one way only. The first are of the envelope, the others of the stream.
var envelopeSpoils = map[string]func(e *Envelope) error{
	// By a nanosecond. Its tokens live on.
	"expired": func(e *Envelope) error {
		e.Options.Expire = uint64(time.Now().UnixNano()) - 1
		return nil
	},
	"host": func(e *Envelope) error {
		stranger, err := strangeHandle()
		e.From.Address.Host = stranger.Address.Host
		return err
	},
	"recipient": func(e *Envelope) error {
		stranger, err := strangeHandle()
		e.To.ID = stranger.ID
		return err
	},
	"behaviour": func(e *Envelope) error {
		var random [16]byte
		_, err := rand.Read(random[:])
		e.Behaviour = "/dms/actor/replyto/" + hex.EncodeToString(random[:])
		return err
	},
	"no-cap": func(e *Envelope) error {
		e.Capabilities = nil
		return nil
	},
}

var bodySpoils = map[string]func(body []byte) Frame{
	"garbage": func(body []byte) Frame { return whole(body[1:]) },
	"short":   func(body []byte) Frame { return Frame{announced: uint64(len(body)), body: body[:len(body)-1]} },
	"trailing": func(body []byte) Frame {
		return Frame{announced: uint64(len(body)), body: append(append([]byte{}, body...), '!')}
	},
	"too-long": func(body []byte) Frame { return Frame{announced: maxMessage + 1, body: body} },
	"two-gib":  func(body []byte) Frame { return Frame{announced: 1 << 31, body: body} },
	"reset": func(body []byte) Frame {
		return Frame{announced: uint64(len(body)), body: body[:len(body)/2], ending: resetIt}
	},
	"half-open": func(body []byte) Frame {
		return Frame{announced: uint64(len(body)), body: body[:len(body)/2], ending: leaveOpen}
	},
	// Right, but a few bytes at a time.
	"slow": func(body []byte) Frame {
		frame := whole(body)
		frame.piece, frame.pause = 100, 10*time.Millisecond
		return frame
	},
}

// spoiled signs an envelope and makes it wrong in the way that is named; none at all is right.
func spoiled(e Envelope, how string, key Key) (Frame, error) {
	change, ofEnvelope := envelopeSpoils[how]
	switch {
	case ofEnvelope:
		if err := change(&e); err != nil {
			return Frame{}, err
		}
	case how == "signer":
		stranger, err := randomKey()
		if err != nil {
			return Frame{}, err
		}
		e.From.ID, e.From.DID, key = actorOf(stranger.public()), stranger.DID(), stranger
	}
	signed, err := e.Sign(key)
	if err != nil {
		return Frame{}, err
	}
	if how == "signature" {
		signed.Signature[0] ^= 1
	}
	body, err := signed.body()
	if err != nil {
		return Frame{}, err
	}
	frame, ofBody := bodySpoils[how]
	switch {
	case ofBody:
		return frame(body), nil
	case how == "" || how == "signature" || how == "signer" || ofEnvelope:
		return whole(body), nil
	}
	return Frame{}, fmt.Errorf("nothing is spoiled by %q", how)
}

func randomKey() (Key, error) {
	var seed [32]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return Key{}, err
	}
	return KeyFromSeed(hex.EncodeToString(seed[:]))
}

func strangeHandle() (Handle, error) {
	key, err := randomKey()
	if err != nil {
		return Handle{}, err
	}
	return key.Handle("root")
}
