package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"
)

// Lies are what a node is told to send before its true reply, which it then holds back until it is told to go on.
type Lies struct {
	mutex sync.Mutex
	how   string
	times int
	truth chan struct{}
}

// order is one line of standard input of `serve`.
type order struct {
	// Spoil the next reply in this way, so many times.
	Lie   string `json:"lie"`
	Times int    `json:"times"`
	// Send the true reply.
	Truth bool `json:"truth"`
	// How long each step of a deployment takes from now on, in milliseconds.
	Pace int64 `json:"pace"`
}

// obey takes orders until there are no more.
func (n *Node) obey(in io.Reader) error {
	lines := json.NewDecoder(in)
	for {
		var one order
		err := lines.Decode(&one)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case one.Truth:
			n.lies.tellTruth()
		case one.Pace > 0:
			n.deployments.setPace(time.Duration(one.Pace) * time.Millisecond)
			n.report(event{Event: "paced"})
		default:
			n.lies.set(one.Lie, max(one.Times, 1))
			n.report(event{Event: "lying", Reason: one.Lie})
		}
	}
}

func (l *Lies) set(how string, times int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.how, l.times = how, times
}

// take gives what the next reply is to be spoiled by; that is then over.
func (l *Lies) take() (string, int, chan struct{}) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	how, times := l.how, l.times
	l.how, l.times = "", 0
	// Replies without a lie pass while another is held back.
	if how != "" {
		l.truth = make(chan struct{})
	}
	return how, times, l.truth
}

func (l *Lies) tellTruth() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.truth != nil {
		close(l.truth)
		l.truth = nil
	}
}

// lie sends what was ordered and returns when the truth may be told.
func (n *Node) lie(ctx context.Context, reply Envelope) error {
	how, times, truth := n.lies.take()
	if how == "" {
		return nil
	}
	for range times {
		if err := n.lieOnce(ctx, reply, how); err != nil {
			n.report(event{Event: "unlied", Reason: how, Detail: err.Error()})
		}
	}
	n.report(event{Event: "lied", Reason: how})
	select {
	case <-truth:
		return nil
	case <-ctx.Done():
		return errors.New("nobody asked for the truth")
	}
}

func (n *Node) lieOnce(ctx context.Context, reply Envelope, how string) error {
	switch how {
	case "silence":
		return nil
	case "unproposed":
		return n.openUnproposed(ctx, reply)
	case "twice":
		// The true one, early; the one that is held back is the second.
		how = ""
	}
	frame, err := spoiled(reply, how, n.key)
	if err != nil {
		return err
	}
	return n.link.SendFrame(ctx, reply.To.Address, frame)
}

// openUnproposed opens a stream and never says what for.
func (n *Node) openUnproposed(ctx context.Context, reply Envelope) error {
	for _, conn := range n.link.host.Network().Conns() {
		if conn.RemotePeer().String() == reply.To.Address.Host {
			s, err := conn.NewStream(ctx)
			if err != nil {
				return err
			}
			time.AfterFunc(time.Minute, func() { _ = s.Reset() })
			return nil
		}
	}
	return errors.New("no connection")
}
