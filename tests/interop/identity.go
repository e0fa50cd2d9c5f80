package main

import (
	"crypto/ed25519"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/mr-tron/base58"
)

// Key is one Ed25519 key: at once DID, actor ID and libp2p peer ID.
type Key struct {
	private ed25519.PrivateKey
}

// KeyFromSeed reads a key from the 64 hex digits of its seed.
func KeyFromSeed(text string) (Key, error) {
	seed, err := hex.DecodeString(text)
	if err != nil || len(seed) != ed25519.SeedSize {
		return Key{}, errors.New("a seed is 64 hex digits")
	}
	return Key{ed25519.NewKeyFromSeed(seed)}, nil
}

func (k Key) public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// DID is the did:key of this key.
func (k Key) DID() DID { return didOf(k.public()) }

// Handle is the address of an actor that signs with this key and listens as `inbox` on its own host.
func (k Key) Handle(inbox string) (Handle, error) {
	host, err := peerOf(k.public())
	if err != nil {
		return Handle{}, err
	}
	return Handle{ID: actorOf(k.public()), DID: k.DID(), Address: Address{Host: host.String(), Inbox: inbox}}, nil
}

func (k Key) libp2p() (crypto.PrivKey, error) { return crypto.UnmarshalEd25519PrivateKey(k.private) }

// The multicodec 0xed as a varint, before the raw key in a did:key.
var didPrefix = []byte{0xed, 0x01}

// The libp2p protobuf of an Ed25519 public key is this and the 32 bytes.
var protobufPrefix = []byte{0x08, 0x01, 0x12, 0x20}

func didOf(public ed25519.PublicKey) DID {
	return DID{URI: "did:key:z" + base58.Encode(append(append([]byte{}, didPrefix...), public...))}
}

func keyOfDID(did DID) (ed25519.PublicKey, error) {
	text, found := strings.CutPrefix(did.URI, "did:key:z")
	if !found {
		return nil, fmt.Errorf("%q is not a did:key", did.URI)
	}
	raw, err := base58.Decode(text)
	if err != nil || len(raw) != 34 || raw[0] != didPrefix[0] || raw[1] != didPrefix[1] {
		return nil, fmt.Errorf("%q is not the did:key of an Ed25519 key", did.URI)
	}
	return ed25519.PublicKey(raw[2:]), nil
}

func actorOf(public ed25519.PublicKey) ID {
	return ID{Public: Base32(base32.StdEncoding.EncodeToString(append(append([]byte{}, protobufPrefix...), public...)))}
}

func keyOfActor(id ID) (ed25519.PublicKey, error) {
	raw, err := base32.StdEncoding.DecodeString(string(id.Public))
	if err != nil || len(raw) != 36 || string(raw[:4]) != string(protobufPrefix) {
		return nil, fmt.Errorf("%q is not the actor ID of an Ed25519 key", id.Public)
	}
	return ed25519.PublicKey(raw[4:]), nil
}

func peerOf(public ed25519.PublicKey) (peer.ID, error) {
	key, err := crypto.UnmarshalEd25519PublicKey(public)
	if err != nil {
		return "", err
	}
	return peer.IDFromPublicKey(key)
}

func keyOfPeer(id peer.ID) (ed25519.PublicKey, error) {
	key, err := id.ExtractPublicKey()
	if err != nil {
		return nil, err
	}
	raw, err := key.Raw()
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("peer %s has no Ed25519 key", id)
	}
	return ed25519.PublicKey(raw), nil
}
