package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// The behaviours that read deployments.

func deploymentList(n *Node, ask Ask) (any, error) {
	var request struct {
		Metadata      map[string]string `json:"metadata"`
		Limit         int               `json:"limit"`
		Offset        int               `json:"offset"`
		Status        []State           `json:"status"`
		ID            string            `json:"id"`
		CreatedAfter  *time.Time        `json:"created_after"`
		CreatedBefore *time.Time        `json:"created_before"`
		UpdatedAfter  *time.Time        `json:"updated_after"`
		UpdatedBefore *time.Time        `json:"updated_before"`
		SortBy        string            `json:"sort_by"`
	}
	// An error is an empty list without a word about it.
	if err := ask.decode(&request); err != nil || request.Limit < 0 || request.Offset < 0 {
		return listReply{Deployments: []listEntry{}}, nil
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	var hits []*Deployment
	for _, one := range all.all {
		state := one.state(ask.now, all.pace)
		if (len(request.Status) == 0 || slices.Contains(request.Status, state)) && (request.ID == "" || request.ID == one.id) &&
			within(one.created, request.CreatedAfter, request.CreatedBefore) &&
			within(one.updated, request.UpdatedAfter, request.UpdatedBefore) {
			hits = append(hits, one)
		}
	}
	reply := listReply{Deployments: []listEntry{}, Total: len(hits)}
	first := min(request.Offset, len(hits))
	last := len(hits)
	// The old spelling knows no pages.
	if !n.old {
		limit := all.page
		if request.Limit > 0 {
			limit = min(limit, request.Limit)
		}
		last = min(first+limit, len(hits))
	}
	if reply.HasMore = last < len(hits); reply.HasMore {
		reply.NextOffset = last
	}
	// The filter by metadata comes after the page is cut.
	for _, one := range hits[first:last] {
		if holds(one.ensemble.Metadata, request.Metadata) {
			reply.Deployments = append(reply.Deployments, one.entry(ask.now, all.pace))
		}
	}
	if len(request.Metadata) > 0 {
		reply.Total = len(reply.Deployments)
	}
	return reply, nil
}

func within(at time.Time, after, before *time.Time) bool {
	return (after == nil || at.After(*after)) && (before == nil || at.Before(*before))
}

func holds(metadata, wanted map[string]string) bool {
	for name, value := range wanted {
		if found, there := metadata[name]; !there || found != value {
			return false
		}
	}
	return true
}

func (d *Deployment) entry(now time.Time, pace time.Duration) listEntry {
	entry := listEntry{ID: d.id, Status: d.state(now, pace).String(), Created: d.created.UTC(), Updated: d.updated.UTC(),
		Metadata: d.ensemble.Metadata}
	if d.state(now, pace) == completed {
		at := d.stopped.Add(pace).UTC()
		entry.Completed = &at
	}
	return entry
}

func deploymentStatus(n *Node, ask Ask) (any, error) {
	var request struct {
		ID           string `json:"id"`
		IncludeUsage bool   `json:"include_usage"`
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one := all.get(request.ID)
	if one == nil {
		return statusReply{Error: unknownDeployment(request.ID)}, nil
	}
	reply := statusReply{Status: one.state(ask.now, all.pace).String()}
	if one.state(ask.now, all.pace) == running {
		reply.AllocationInfo = map[string]allocationInfo{}
		for _, key := range one.keys(n.old) {
			info := n.infoOf(one, key, ask.now, request.IncludeUsage)
			reply.AllocationInfo[info.AllocationID] = info
		}
	}
	return reply, nil
}

// key of an allocation in a manifest.
type allocationKey struct{ text, node, name string }

func (d *Deployment) keys(old bool) []allocationKey {
	var keys []allocationKey
	for node, on := range d.ensemble.Nodes {
		for _, name := range on.Allocations {
			text := node + "." + name
			if old {
				text = name
			}
			keys = append(keys, allocationKey{text, node, name})
		}
	}
	return keys
}

func (n *Node) infoOf(d *Deployment, key allocationKey, now time.Time, usage bool) allocationInfo {
	since := now.Sub(d.created)
	info := allocationInfo{AllocationID: d.id + "_" + key.text, Status: "running", HeartbeatSeq: uint64(since / time.Second),
		Health: health{Healthy: true, LastCheckTime: now.UTC()}, DNSName: d.ensemble.Allocations[key.name].DNSName,
		IP: privateAddress, Timestamp: now.UTC()}
	if usage {
		info.ResourceUsage = resourceUsage{CPUPercent: 12.5, MemoryUsed: 1 << 20,
			MemoryLimit: uint64(d.ensemble.Allocations[key.name].Resources.RAM.Size),
			Received:    uint64(since / time.Millisecond), Sent: uint64(since / time.Microsecond)}
	}
	return info
}

const privateAddress = "10.20.30.2"

func deploymentManifest(n *Node, ask Ask) (any, error) {
	var request struct{ ID string }
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one := all.get(request.ID)
	if one == nil {
		return manifestReply{Error: unknownDeployment(request.ID)}, nil
	}
	return manifestReply{Manifest: n.manifestOf(one, one.state(ask.now, all.pace))}, nil
}

// manifestOf gives what stands where. Ports that were left open are given out from 20000 on.
func (n *Node) manifestOf(d *Deployment, state State) *Manifest {
	manifest := &Manifest{ID: d.id, Metadata: d.ensemble.Metadata, Orchestrator: n.self,
		Allocations: map[string]manifestAllocation{}, Nodes: map[string]manifestNode{}}
	manifest.Orchestrator.Address.Inbox = d.id
	status := "pending"
	if state == running {
		status = "running"
	}
	for _, key := range d.keys(n.old) {
		wanted := d.ensemble.Allocations[key.name]
		allocation := manifestAllocation{ID: d.id + "_" + key.text, NodeID: key.node, Type: wanted.Type, Handle: n.self,
			DNSName: wanted.DNSName, PrivateAddress: privateAddress, HealthCheck: json.RawMessage("{}"), Status: status}
		allocation.Handle.Address.Inbox = allocation.ID
		for i, port := range d.ensemble.Nodes[key.node].Ports {
			if port.Allocation != key.name {
				continue
			}
			if allocation.Ports == nil {
				allocation.Ports = map[int]int{}
			}
			if port.Public == 0 {
				port.Public = 20000 + i
			}
			allocation.Ports[port.Public] = port.Private
		}
		manifest.Allocations[key.text] = allocation
	}
	for name, node := range d.ensemble.Nodes {
		manifest.Nodes[name] = manifestNode{ID: name, Peer: n.self.Address.Host, Handle: n.self,
			PublicAddress: []string{"127.0.0.1"}, Allocations: node.Allocations, RedundancyRole: "primary", Status: "active"}
	}
	return manifest
}

func deploymentInfo(n *Node, ask Ask) (any, error) {
	var request struct {
		ID              string   `json:"id"`
		IncludeUsage    bool     `json:"include_usage"`
		IncludeLogs     bool     `json:"include_logs"`
		AllocationNames []string `json:"allocation_names"`
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	all := n.deployments
	all.mutex.Lock()
	defer all.mutex.Unlock()
	one := all.get(request.ID)
	if one == nil {
		return infoReply{ID: request.ID, Error: unknownDeployment(request.ID)}, nil
	}
	state := one.state(ask.now, all.pace)
	reply := infoReply{ID: one.id, Status: state.String(), Manifest: n.manifestOf(one, state),
		Allocations: map[string]infoAllocation{}}
	for _, key := range one.keys(n.old) {
		names := request.AllocationNames
		if len(names) > 0 && !slices.Contains(names, key.text) && !slices.Contains(names, key.name) {
			continue
		}
		info := infoAllocation{allocationInfo: n.infoOf(one, key, ask.now, request.IncludeUsage)}
		if request.IncludeLogs && state == running {
			at := logsFolder(one.id, key.text)
			info.Logs = &infoLogs{Stdout: at + "/stdout.log", Stderr: at + "/stderr.log", WrittenTo: at}
		}
		reply.Allocations[key.text] = info
	}
	return reply, nil
}

func logsFolder(id, allocation string) string {
	return fmt.Sprintf("/var/lib/dms-peer/deployments/%s/%s", id, allocation)
}
