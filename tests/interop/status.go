package main

import (
	"context"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// The behaviours that tell of the node itself.

func hello(n *Node, ask Ask) (any, error) {
	return helloReply{DID: n.key.DID()}, ask.decode(&struct{}{})
}

func publicStatus(n *Node, ask Ask) (any, error) {
	return publicStatusReply{Status: "OK", Resources: offered()}, ask.decode(&struct{}{})
}

func healthcheck(_ *Node, ask Ask) (any, error) {
	var text string
	return outcome{OK: true}, ask.decode(&text)
}

func (n *Node) who() peersSelfReply {
	return peersSelfReply{ID: n.self.Address.Host, Listen: strings.Join(n.link.addresses(), ", ")}
}

func peersSelf(n *Node, ask Ask) (any, error) { return n.who(), ask.decode(&struct{}{}) }

func peersList(n *Node, ask Ask) (any, error) {
	reply := peersListReply{Peers: []string{}}
	for _, one := range n.link.host.Network().Peers() {
		reply.Peers = append(reply.Peers, one.String())
	}
	return reply, ask.decode(&struct{}{})
}

func peersPing(n *Node, ask Ask) (any, error) {
	var request struct{ Host string }
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	to, err := peer.Decode(request.Host)
	if err != nil {
		return peersPingReply{Error: err.Error()}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	select {
	case result := <-ping.Ping(ctx, n.link.host, to):
		if result.Error != nil {
			return peersPingReply{Error: result.Error.Error()}, nil
		}
		return peersPingReply{RTT: result.RTT.Milliseconds()}, nil
	case <-ctx.Done():
		return peersPingReply{Error: "no answer within a second"}, nil
	}
}

func peersConnect(n *Node, ask Ask) (any, error) {
	var request struct{ Address string }
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	to, err := peer.AddrInfoFromString(request.Address)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err = n.link.host.Connect(ctx, *to)
	}
	if err != nil {
		return peersConnectReply{Error: err.Error()}, nil
	}
	return peersConnectReply{Status: "CONNECTED"}, nil
}

func onboardingStatus(_ *Node, ask Ask) (any, error) {
	return onboardingReply{Onboarded: true}, ask.decode(&struct{}{})
}

// offered is what this node gives away: four cores, and sizes that no 32 bits hold.
func offered() Resources {
	var all Resources
	all.CPU.Cores, all.CPU.ClockSpeed, all.CPU.Architecture = 4, 2.5e9, "amd64"
	all.RAM.Size, all.Disk.Size = 8<<30, 100<<30
	return all
}

func (n *Node) allocated(now time.Time) Resources {
	n.deployments.mutex.Lock()
	defer n.deployments.mutex.Unlock()
	var sum Resources
	sum.CPU.ClockSpeed = offered().CPU.ClockSpeed
	for _, one := range n.deployments.all {
		if state := one.state(now, n.deployments.pace); state == failed || state == completed {
			continue
		}
		for _, allocation := range one.ensemble.Allocations {
			asked := allocation.Resources
			sum.CPU.Cores += asked.CPU.Cores * asked.CPU.ClockSpeed / sum.CPU.ClockSpeed
			sum.RAM.Size += asked.RAM.Size
			sum.Disk.Size += asked.Disk.Size
		}
	}
	return sum
}

func (n *Node) free(now time.Time) Resources {
	left, taken := offered(), n.allocated(now)
	left.CPU.Cores -= taken.CPU.Cores
	left.RAM.Size -= taken.RAM.Size
	left.Disk.Size -= taken.Disk.Size
	return left
}

func resourcesFree(n *Node, ask Ask) (any, error) {
	return resourcesReply{OK: true, Resources: n.free(ask.now)}, ask.decode(&struct{}{})
}

// In one version `OK` stays false on success.
func resourcesAllocated(n *Node, ask Ask) (any, error) {
	return resourcesReply{Resources: n.allocated(ask.now)}, ask.decode(&struct{}{})
}

func resourcesOnboarded(_ *Node, ask Ask) (any, error) {
	return resourcesReply{OK: true, Resources: offered()}, ask.decode(&struct{}{})
}

func nodeStatus(n *Node, ask Ask) (any, error) {
	value := discovery{Hostname: "dms-peer", DID: n.key.DID().URI, Onboarded: true,
		Network: networkStatus{Interfaces: []networkInterface{{Name: "lo", IP: []string{"127.0.0.1"}}}, P2P: n.who()},
		Resources: resourceFigures{Total: offered(), Onboarded: offered(), Allocated: n.allocated(ask.now),
			Free: n.free(ask.now)}}
	return nodeStatusReply{n.self.Address.Host: value}, ask.decode(&struct{}{})
}
