package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multistream"
)

const (
	maxMessage  = 1 << 20
	readTimeout = 30 * time.Second
)

// Link is a libp2p host that exchanges envelopes.
type Link struct {
	host host.Host
	// polite: streams by the host (peerstore, lazy negotiation) and read to their end. Otherwise as a DMS does it: raw
	// streams negotiated eagerly, a single read of the length, closed without reading the end.
	polite bool
}

// NewLink starts a host over TCP with the key of `key`.
func NewLink(key Key, polite bool, listen ...string) (*Link, error) {
	private, err := key.libp2p()
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(libp2p.Identity(private), libp2p.ListenAddrStrings(listen...),
		libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableRelay())
	if err != nil {
		return nil, err
	}
	return &Link{host: h, polite: polite}, nil
}

// addresses are those that it listens on.
func (l *Link) addresses() (addresses []string) {
	for _, one := range l.host.Addrs() {
		addresses = append(addresses, one.String())
	}
	return addresses
}

// The protocol of an inbox. It has no leading slash.
func inboxProtocol(inbox string) protocol.ID {
	return protocol.ID("actor/" + inbox + "/messages/0.0.1")
}

// Listen calls `receive` with each message for `inbox`, and `broken` with the error of each stream that brought none.
func (l *Link) Listen(inbox string, receive func(peer.ID, []byte), broken func(peer.ID, error)) {
	l.host.SetStreamHandler(inboxProtocol(inbox), func(s network.Stream) {
		from := s.Conn().RemotePeer()
		body, err := l.read(s)
		if err != nil {
			_ = s.Reset()
			broken(from, err)
			return
		}
		_ = s.Close()
		receive(from, body)
	})
}

func (l *Link) read(s network.Stream) ([]byte, error) {
	_ = s.SetReadDeadline(time.Now().Add(readTimeout))
	in := bufio.NewReader(s)
	var header [8]byte
	if l.polite {
		if _, err := io.ReadFull(in, header[:]); err != nil {
			return nil, err
		}
	} else if n, err := in.Read(header[:]); err != nil || n != len(header) {
		return nil, fmt.Errorf("a length of %d bytes: %w", n, err)
	}
	size := binary.LittleEndian.Uint64(header[:])
	if size > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes, more than %d", size, maxMessage)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(in, body); err != nil {
		return nil, err
	}
	if l.polite {
		if rest, err := io.Copy(io.Discard, in); err != nil || rest != 0 {
			return nil, fmt.Errorf("%d bytes after the message: %w", rest, err)
		}
	}
	return body, nil
}

func (l *Link) open(ctx context.Context, to peer.ID, name protocol.ID) (network.Stream, error) {
	if l.polite {
		return l.host.NewStream(ctx, to, name)
	}
	s, err := l.host.Network().NewStream(ctx, to)
	if err != nil {
		return nil, err
	}
	if _, err := multistream.SelectOneOf([]protocol.ID{name}, s); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, s.SetProtocol(name)
}
