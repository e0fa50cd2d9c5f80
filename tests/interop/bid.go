package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Location is where a node says it stands.
type Location struct {
	Continent string `json:"continent,omitempty"`
	Country   string `json:"country,omitempty"`
	City      string `json:"city,omitempty"`
	ASN       string `json:"asn,omitempty"`
	ISP       string `json:"isp,omitempty"`
}

// Contract is one that a bid rests on.
type Contract struct {
	DID       string `json:"did"`
	Host      string `json:"host"`
	Provider  string `json:"provider,omitempty"`
	Requestor string `json:"requestor,omitempty"`
}

// Bid is the newest layout, with nine members.
type Bid struct {
	EnsembleID string
	NodeID     string
	Peer       string
	PubAddress string
	Location   Location
	Handle     Handle
	Contracts  map[string]Contract
	Signature  []byte
	PromiseBid bool
}

// SignedBid is a bid as it is sent.
type SignedBid struct {
	V1 Bid
}

func (b Bid) signedBytes() ([]byte, error) {
	b.Signature = nil
	body, err := json.Marshal(b)
	return append([]byte("dms-bid-"), body...), err
}

// Sign returns the bid with the signature of `key`, which must be the bidder's.
func (b Bid) Sign(key Key) (Bid, error) {
	signed, err := b.signedBytes()
	b.Signature = ed25519.Sign(key.private, signed)
	return b, err
}

// Verify checks the signature against the key in the peer ID.
func (b Bid) Verify() error {
	id, err := peer.Decode(b.Peer)
	if err != nil {
		return err
	}
	public, err := keyOfPeer(id)
	if err != nil {
		return err
	}
	signed, err := b.signedBytes()
	if err != nil {
		return err
	}
	if !ed25519.Verify(public, signed, b.Signature) {
		return errors.New("the signature of the bid is wrong")
	}
	return nil
}
