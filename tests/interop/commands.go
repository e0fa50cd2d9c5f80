package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

func serve(args []string) error {
	flags := newListenerFlags("serve")
	spelling := flags.String("spelling", "new", "replies as the newest release spells them, or an old one: new or old")
	pace := flags.Duration("pace", 20*time.Millisecond, "how long each step of a deployment takes")
	page := flags.Int("page", 100, "most deployments in one page of a list")
	logBytes := flags.Int("log-bytes", 1000, "about how much an allocation writes")
	lie := flags.String("spoil-reply", "", "lie before the first true reply, as an order to lie does")
	topic := flags.String("topic", "", "topic to listen to")
	quiet := flags.Bool("quiet", false, "tell only where it listens")
	var roots dids
	flags.Var(&roots, "root", "DID trusted for everything (repeatable)")
	_ = flags.Parse(args)
	if *spelling != "new" && *spelling != "old" {
		return fmt.Errorf("no spelling %q: say new or old", *spelling)
	}
	key, link, report, err := flags.start()
	if err != nil {
		return err
	}
	defer link.host.Close()
	self, err := key.Handle("root")
	if err != nil {
		return err
	}
	told := report
	if *quiet {
		told = func(any) {}
	}
	node := &Node{key: key, self: self, roots: roots, link: link, report: told, old: *spelling == "old",
		deployments: &Deployments{pace: *pace, page: *page, logBytes: *logBytes}}
	node.nonce.Store(uint64(time.Now().UnixNano()))
	node.lies.set(*lie, 1)
	link.Listen("root", node.receive, func(from peer.ID, err error) { node.drop(from, drop{"BrokenStream", err}) })
	if *topic != "" {
		if err := node.listenTo(*topic); err != nil {
			return err
		}
	}
	report(link.listening(key))
	return node.obey(os.Stdin)
}

func invoke(args []string) error {
	flags := newCallerFlags("invoke")
	behaviour := flags.String("behaviour", "/dms/node/peers/self", "what to invoke")
	message := flags.String("message", "{}", "payload of the request")
	timeout := flags.Duration("timeout", 10*time.Second, "how long to wait for the reply")
	_ = flags.Parse(args)
	report := printer(os.Stdout)
	caller, err := flags.connect(report)
	if err != nil {
		return err
	}
	defer caller.link.host.Close()
	told := caller.tell(Request{Behaviour: *behaviour, Message: []byte(*message), Wait: timeout.Milliseconds()})
	if told.Event == "silent" {
		return errNoReply
	}
	report(told)
	if told.Event != "reply" {
		return errors.New(told.Detail)
	}
	return nil
}

func talk(args []string) error {
	flags := newCallerFlags("talk")
	_ = flags.Parse(args)
	report := printer(os.Stdout)
	caller, err := flags.connect(report)
	if err != nil {
		return err
	}
	defer caller.link.host.Close()
	lines := json.NewDecoder(os.Stdin)
	for {
		var request Request
		err := lines.Decode(&request)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a line is no request: %w", err)
		}
		report(caller.tell(request))
	}
}

// tell makes a call and one line of what came of it.
func (c *Caller) tell(request Request) event {
	start := time.Now()
	reply, err := c.Do(request)
	told := event{Event: "reply", Peer: c.to.ID.String(), Behaviour: request.Behaviour, Message: reply,
		Micros: time.Since(start).Microseconds(), Connections: c.opened.Load()}
	switch {
	case errors.Is(err, errNoReply):
		told.Event = "silent"
	case err != nil:
		told.Event, told.Detail = "failed", err.Error()
	case reply == nil:
		told.Event = "sent"
	default:
		if err := checkReply(request.Behaviour, reply); err != nil {
			told.Event, told.Detail = "misspelled", err.Error()
		}
	}
	return told
}
