package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Frame is what goes over one stream, and how. One of `whole` is right.
type Frame struct {
	announced uint64
	body      []byte
	ending    ending
	// Bytes in one write, and what is waited between two; none is all at once.
	piece int
	pause time.Duration
}

type ending int

const (
	closeIt ending = iota
	resetIt
	leaveOpen
)

func whole(body []byte) Frame { return Frame{announced: uint64(len(body)), body: body} }

func (e Envelope) body() ([]byte, error) { return json.Marshal(e) }

// Send opens a stream to the host and inbox of `envelope.To` and writes the message.
func (l *Link) Send(ctx context.Context, envelope Envelope) error {
	body, err := envelope.body()
	if err != nil {
		return err
	}
	return l.SendFrame(ctx, envelope.To.Address, whole(body))
}

// SendFrame is Send for what is wrong on purpose.
func (l *Link) SendFrame(ctx context.Context, address Address, frame Frame) error {
	to, err := peer.Decode(address.Host)
	if err != nil {
		return err
	}
	return l.sendFrame(ctx, to, address.Inbox, frame)
}

// SendBody opens a stream to an inbox of a host and writes one message.
func (l *Link) SendBody(ctx context.Context, to peer.ID, inbox string, body []byte) error {
	return l.sendFrame(ctx, to, inbox, whole(body))
}

func (l *Link) sendFrame(ctx context.Context, to peer.ID, inbox string, frame Frame) error {
	s, err := l.open(ctx, to, inboxProtocol(inbox))
	if err != nil {
		return err
	}
	if err := frame.write(s); err != nil {
		_ = s.Reset()
		return err
	}
	switch frame.ending {
	case resetIt:
		return s.Reset()
	case leaveOpen:
		return nil
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	return s.Close()
}

// The length goes out with the beginning of the body: the receiver takes it with a single read.
func (f Frame) write(s network.Stream) error {
	bytes := append(binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(f.body)), f.announced), f.body...)
	for f.piece > 0 && len(bytes) > f.piece {
		if _, err := s.Write(bytes[:f.piece]); err != nil {
			return err
		}
		bytes = bytes[f.piece:]
		time.Sleep(f.pause)
	}
	_, err := s.Write(bytes)
	return err
}
