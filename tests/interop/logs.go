package main

import (
	"fmt"
	"strings"
	"time"
)

// A reply stays below a mebibyte with this much in it.
const largestChunk = 512 << 10

// What an allocation is said to have written: numbered lines, so that whoever reads them sees what is missing.
func writtenBy(allocation string, size int) []byte {
	var text strings.Builder
	for number := 0; text.Len() < size; number++ {
		fmt.Fprintf(&text, "%s %d\n", allocation, number)
	}
	return []byte(text.String())
}

func complained(allocation string) []byte { return []byte("warning of " + allocation + "\n") }

func allocationLogs(n *Node, ask Ask, id string) (any, error) {
	var request struct {
		AllocName string
		Ack       int64 `json:"ack"`
		Offset    int64 `json:"offset"`
		MaxBytes  int   `json:"max_bytes"`
		Stream    string
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	if !n.deployments.has(id, request.AllocName, n.old) {
		return allocationLogsReply{Error: fmt.Sprintf("no allocation %q", request.AllocName)}, nil
	}
	out, complaints := writtenBy(request.AllocName, n.deployments.logBytes), complained(request.AllocName)
	if n.old {
		return allocationLogsReply{Stdout: out[:min(len(out), largestChunk)], Stderr: complaints}, nil
	}
	switch request.Stream {
	case "stdout":
		return chunk(out, request.Offset, request.Ack, request.MaxBytes, "stdout"), nil
	case "stderr":
		return chunk(complaints, request.Offset, request.Ack, request.MaxBytes, "stderr"), nil
	}
	return allocationLogsReply{Error: fmt.Sprintf("no stream %q", request.Stream)}, nil
}

func chunk(all []byte, offset, ack int64, most int, stream string) allocationLogsReply {
	size := int64(len(all))
	if offset < 0 || offset > size || ack > offset {
		return allocationLogsReply{Error: fmt.Sprintf("offset %d, acknowledged %d, of %d", offset, ack, size)}
	}
	if most <= 0 || most > largestChunk {
		most = largestChunk
	}
	next := min(offset+int64(most), size)
	return allocationLogsReply{Offset: offset, NextOffset: next, TotalSize: size, EOF: next == size,
		Data: all[offset:next], Stream: stream}
}

func (all *Deployments) has(id, allocation string, old bool) bool {
	all.mutex.Lock()
	defer all.mutex.Unlock()
	if one := all.get(id); one != nil {
		for _, key := range one.keys(old) {
			if key.text == allocation {
				return true
			}
		}
	}
	return false
}

type logsRequest struct{ EnsembleID, AllocationName string }

// runningLogs finds what the log behaviours are about, or says why it cannot; with the lock held.
func (n *Node) runningLogs(request logsRequest, now time.Time) (*Deployment, string) {
	one := n.deployments.get(request.EnsembleID)
	if one == nil || one.state(now, n.deployments.pace) != running {
		return nil, "failed to get orchestrator"
	}
	for _, key := range one.keys(n.old) {
		if key.text == request.AllocationName {
			return one, ""
		}
	}
	return nil, fmt.Sprintf("no allocation %q", request.AllocationName)
}

func deploymentLogs(n *Node, ask Ask) (any, error) {
	var request logsRequest
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	n.deployments.mutex.Lock()
	defer n.deployments.mutex.Unlock()
	if _, failure := n.runningLogs(request, ask.now); failure != "" {
		return logsReply{Error: failure}, nil
	}
	return logsReply{LogsWrittenTo: logsFolder(request.EnsembleID, request.AllocationName)}, nil
}

// One job for each who asks and allocation.
type jobKey struct {
	asked      DID
	allocation string
}

type logJob struct {
	started, stopped time.Time
	follow           bool
	every            time.Duration
}

func (j *logJob) status(now time.Time, pace time.Duration) string {
	switch {
	case !j.stopped.IsZero():
		return "stopped"
	case j.follow || now.Sub(j.started) < pace:
		return "running"
	}
	return "complete"
}

func (n *Node) bytesWritten(allocation string) int64 {
	return int64(len(writtenBy(allocation, n.deployments.logBytes)) + len(complained(allocation)))
}

func asyncLogs(n *Node, ask Ask) (any, error) {
	var request struct {
		logsRequest
		Follow                bool
		FollowIntervalSeconds int
	}
	if err := ask.decode(&request); err != nil {
		return nil, err
	}
	n.deployments.mutex.Lock()
	defer n.deployments.mutex.Unlock()
	one, failure := n.runningLogs(request.logsRequest, ask.now)
	if failure != "" {
		return asyncLogsReply{Error: failure}, nil
	}
	key, pace := jobKey{ask.sender, request.AllocationName}, n.deployments.pace
	job := one.jobs[key]
	if job == nil || job.status(ask.now, pace) != "running" {
		every := 10 * time.Second
		if request.FollowIntervalSeconds > 0 {
			every = min(max(time.Duration(request.FollowIntervalSeconds)*time.Second, time.Second), 5*time.Minute)
		}
		job = &logJob{started: ask.now, follow: request.Follow, every: every}
		one.jobs[key] = job
	}
	return asyncLogsReply{LogsWrittenTo: logsFolder(request.EnsembleID, request.AllocationName),
		Status: job.status(ask.now, pace), Follow: job.follow, FollowInterval: job.every.String()}, nil
}

func asyncLogsStatus(n *Node, ask Ask) (any, error) {
	job, request, failure, err := n.job(ask, false)
	if err != nil || failure != "" {
		return asyncStatusReply{Error: failure}, err
	}
	return asyncStatusReply{LogsWrittenTo: logsFolder(request.EnsembleID, request.AllocationName),
		Status: job.status(ask.now, n.deployments.pace), BytesWritten: n.bytesWritten(request.AllocationName), Follow: job.follow,
		FollowInterval: job.every.String()}, nil
}

func asyncLogsStop(n *Node, ask Ask) (any, error) {
	job, request, failure, err := n.job(ask, true)
	if err != nil || failure != "" {
		return asyncStopReply{Error: failure}, err
	}
	return asyncStopReply{LogsWrittenTo: logsFolder(request.EnsembleID, request.AllocationName),
		Status: job.status(ask.now, n.deployments.pace), BytesWritten: n.bytesWritten(request.AllocationName)}, nil
}

// job gives what the job that is asked for is at, and stops it first when told to.
func (n *Node) job(ask Ask, stop bool) (job logJob, request logsRequest, failure string, err error) {
	if err = ask.decode(&request); err != nil {
		return
	}
	n.deployments.mutex.Lock()
	defer n.deployments.mutex.Unlock()
	one, failure := n.runningLogs(request, ask.now)
	if failure != "" {
		return
	}
	found := one.jobs[jobKey{ask.sender, request.AllocationName}]
	if found == nil {
		failure = "no log job"
		return
	}
	if stop && found.status(ask.now, n.deployments.pace) == "running" {
		found.stopped = ask.now
	}
	return *found, request, "", nil
}
