package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// What is signed is encoding/json of these structs in this order, without the signature. The order is the protocol.

// DID is a decentralised identifier; empty means "none" or "any".
type DID struct {
	URI string `json:"uri,omitempty"`
}

// ID is an actor's public key.
type ID struct {
	Public Base32 `json:"pub"`
}

// Base32 is the text of bytes. It is decoded when it is read and so always written in its one form.
type Base32 string

// UnmarshalText takes what Go's decoder takes: line breaks and unused bits, but no lower case.
func (b *Base32) UnmarshalText(text []byte) error {
	raw, err := base32.StdEncoding.DecodeString(string(text))
	*b = Base32(base32.StdEncoding.EncodeToString(raw))
	return err
}

// Address says on which host and in which inbox an actor listens.
type Address struct {
	Host  string `json:"host,omitempty"`
	Inbox string `json:"inbox,omitempty"`
}

// Handle names an actor.
type Handle struct {
	ID      ID      `json:"id"`
	DID     DID     `json:"did"`
	Address Address `json:"addr"`
}

// Options of an envelope. Expire is in unix nanoseconds.
type Options struct {
	Expire       uint64 `json:"exp"`
	Continuation string `json:"cont,omitempty"`
	Topic        string `json:"topic,omitempty"`
}

// Envelope is one message between actors.
type Envelope struct {
	To           Handle  `json:"to"`
	Behaviour    string  `json:"be"`
	From         Handle  `json:"from"`
	Nonce        uint64  `json:"nonce"`
	Options      Options `json:"opt"`
	Message      []byte  `json:"msg"`
	Capabilities []byte  `json:"cap,omitempty"`
	Signature    []byte  `json:"sig,omitempty"`
}

func (e Envelope) signedBytes() ([]byte, error) {
	e.Signature = nil
	if e.Message == nil {
		e.Message = []byte{}
	}
	body, err := json.Marshal(e)
	return append([]byte("dms:msg:"), body...), err
}

// Sign returns the envelope with the signature of `key`, which must be the key of `From.ID`.
func (e Envelope) Sign(key Key) (Envelope, error) {
	if e.Message == nil {
		e.Message = []byte{}
	}
	signed, err := e.signedBytes()
	e.Signature = ed25519.Sign(key.private, signed)
	return e, err
}

// Verify checks expiry and signature, and returns the DID of the key that signed.
func (e Envelope) Verify(now uint64) (DID, error) {
	if now > e.Options.Expire {
		return DID{}, errors.New("the message has expired")
	}
	public, err := keyOfActor(e.From.ID)
	if err != nil {
		return DID{}, err
	}
	signed, err := e.signedBytes()
	if err != nil {
		return DID{}, err
	}
	if !ed25519.Verify(public, signed, e.Signature) {
		return DID{}, errors.New("the signature of the message is wrong")
	}
	return didOf(public), nil
}

// Token wraps the one kind of token that is used.
type Token struct {
	DMS *Claims `json:"dms,omitempty"`
}

// Claims of a token. Depth 0 is unlimited; Expire is in unix nanoseconds.
type Claims struct {
	Action       string   `json:"act"`
	Issuer       DID      `json:"iss"`
	Subject      DID      `json:"sub"`
	Audience     DID      `json:"aud"`
	Topics       []string `json:"topic,omitempty"`
	Capabilities []string `json:"cap"`
	Nonce        []byte   `json:"nonce"`
	Expire       uint64   `json:"exp"`
	Depth        uint64   `json:"depth,omitempty"`
	Chain        *Token   `json:"chain,omitempty"`
	Signature    []byte   `json:"sig,omitempty"`
}

// TokenList is what the `cap` of an envelope holds.
type TokenList struct {
	Tokens []Token `json:"tok,omitempty"`
}

func (c Claims) signedBytes() ([]byte, error) {
	c.Signature = nil
	body, err := json.Marshal(c)
	return append([]byte("dms:token:"), body...), err
}

// Sign returns the token with the signature of `key`, which must be the key of the issuer.
func (c Claims) Sign(key Key) (Token, error) {
	if c.Nonce == nil {
		c.Nonce = make([]byte, 12)
		if _, err := rand.Read(c.Nonce); err != nil {
			return Token{}, err
		}
	}
	signed, err := c.signedBytes()
	c.Signature = ed25519.Sign(key.private, signed)
	return Token{DMS: &c}, err
}

func parseTokens(text []byte) ([]Token, error) {
	if len(text) > maxCapabilities {
		return nil, fmt.Errorf("cap has %d bytes, more than %d", len(text), maxCapabilities)
	}
	var list TokenList
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("cap is not a token list: %w", err)
	}
	if slices.Contains(list.Tokens, Token{}) {
		return nil, errors.New("cap holds an empty token")
	}
	return list.Tokens, nil
}

const maxCapabilities = 16384
