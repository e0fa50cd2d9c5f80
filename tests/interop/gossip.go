package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Gossip starts gossipsub on the host: signed by who sends, and refused without that.
func (l *Link) Gossip() (*pubsub.PubSub, error) {
	return pubsub.NewGossipSub(context.Background(), l.host, pubsub.WithMessageSigning(true),
		pubsub.WithStrictSignatureVerification(true), pubsub.WithFloodPublish(true))
}

// broadcastTokens makes what a broadcast carries: for all who listen to the topic.
func (c *Caller) broadcastTokens(request Envelope) ([]byte, error) {
	claims := Claims{Action: "broadcast", Issuer: c.key.DID(), Subject: c.key.DID(), Topics: []string{request.Options.Topic},
		Capabilities: []string{request.Behaviour}, Expire: request.Options.Expire}
	own, err := claims.Sign(c.key)
	list := TokenList{Tokens: []Token{own}}
	if c.grant != nil && err == nil {
		claims.Chain = c.grant
		var chained Token
		chained, err = claims.Sign(c.key)
		list.Tokens = append(list.Tokens, chained)
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(list)
}

// broadcast publishes once the node is known to listen.
func (c *Caller) broadcast(ctx context.Context, envelope Envelope, spoil string) error {
	topic, err := c.topic(envelope.Options.Topic)
	if err != nil {
		return err
	}
	for !listens(topic, c.to.ID) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the node does not listen to %s", envelope.Options.Topic)
		}
	}
	frame, err := spoiled(envelope, spoil, c.key)
	if err != nil {
		return err
	}
	return topic.Publish(ctx, frame.body)
}

func listens(topic *pubsub.Topic, to peer.ID) bool {
	for _, one := range topic.ListPeers() {
		if one == to {
			return true
		}
	}
	return false
}

func (c *Caller) topic(name string) (*pubsub.Topic, error) {
	if c.gossip == nil {
		gossip, err := c.link.Gossip()
		if err != nil {
			return nil, err
		}
		c.gossip, c.topics = gossip, map[string]*pubsub.Topic{}
	}
	if topic := c.topics[name]; topic != nil {
		return topic, nil
	}
	topic, err := c.gossip.Join(name)
	if err == nil {
		c.topics[name] = topic
	}
	return topic, err
}

// listenTo tells of each broadcast on a topic that a node would act on, and of each that it would drop.
func (n *Node) listenTo(name string) error {
	gossip, err := n.link.Gossip()
	if err != nil {
		return err
	}
	check := func(_ context.Context, from peer.ID, message *pubsub.Message) pubsub.ValidationResult {
		result, err := checkBroadcast(message.Data, name)
		if err != nil {
			n.drop(from, drop{"BadBroadcast", err})
		}
		return result
	}
	if err := gossip.RegisterTopicValidator(name, check); err != nil {
		return err
	}
	topic, err := gossip.Join(name)
	if err != nil {
		return err
	}
	arrived, err := topic.Subscribe()
	if err != nil {
		return err
	}
	go func() {
		for {
			message, err := arrived.Next(context.Background())
			if err != nil {
				return
			}
			n.heard(message)
		}
	}()
	return nil
}

// checkBroadcast is what a node asks of a message before it passes it on.
func checkBroadcast(body []byte, topic string) (pubsub.ValidationResult, error) {
	var envelope Envelope
	if err := json.Unmarshal(body, &envelope); err != nil {
		return pubsub.ValidationReject, err
	}
	if envelope.To != (Handle{}) || envelope.Options.Topic != topic {
		return pubsub.ValidationReject, fmt.Errorf("to %q on the topic %q", envelope.To.ID.Public, envelope.Options.Topic)
	}
	now := uint64(time.Now().UnixNano())
	if envelope.Options.Expire < now {
		return pubsub.ValidationIgnore, fmt.Errorf("expired at %d", envelope.Options.Expire)
	}
	if _, err := envelope.Verify(now); err != nil {
		return pubsub.ValidationReject, err
	}
	return pubsub.ValidationAccept, nil
}

func (n *Node) heard(message *pubsub.Message) {
	from := message.GetFrom()
	envelope, signer, err := n.judgeBroadcast(message.Data)
	if err != nil {
		n.drop(from, drop{"NotAuthorised", err})
		return
	}
	n.report(event{Event: "broadcast", Peer: from.String(), DID: signer.URI, Behaviour: envelope.Behaviour,
		Topic: envelope.Options.Topic, Message: envelope.Message})
}

func (n *Node) judgeBroadcast(body []byte) (envelope Envelope, signer DID, err error) {
	if err = json.Unmarshal(body, &envelope); err != nil {
		return
	}
	now := uint64(time.Now().UnixNano())
	if signer, err = envelope.Verify(now); err != nil {
		return
	}
	tokens, err := parseTokens(envelope.Capabilities)
	if err == nil {
		err = n.trust().authoriseBroadcast(tokens, signer, envelope.Options.Topic, envelope.Behaviour, now)
	}
	return
}
