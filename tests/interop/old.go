package main

// The spelling of older releases: names as Go has them, a map for a list, logs in one message.

type oldStatusReply struct{ Status, Error string }

type oldListReply struct{ Deployments map[string]string }

type oldManifestNode struct {
	manifestNode
	// Not a slip of this file.
	PublicAddress []string `json:"pub_addrss"`
	// Hides the newer name.
	Hidden []string `json:"pub_address,omitempty"`
}

type oldManifest struct {
	*Manifest
	Nodes map[string]oldManifestNode `json:"nodes"`
}

type oldManifestReply struct {
	Manifest *oldManifest `json:"manifest"`
	Error    string       `json:"error,omitempty"`
}

type oldAllocationLogsReply struct {
	Stdout, Stderr []byte
	Error          string
}

// inOldSpelling gives what an older release would answer; what never changed stays.
func inOldSpelling(reply any) any {
	switch reply := reply.(type) {
	case statusReply:
		return oldStatusReply{reply.Status, reply.Error}
	case listReply:
		old := oldListReply{Deployments: map[string]string{}}
		for _, one := range reply.Deployments {
			old.Deployments[one.ID] = one.Status
		}
		return old
	case lowerOutcome:
		return outcome(reply)
	case manifestReply:
		old := oldManifestReply{Error: reply.Error}
		if reply.Manifest != nil {
			old.Manifest = &oldManifest{Manifest: reply.Manifest, Nodes: map[string]oldManifestNode{}}
			for name, node := range reply.Manifest.Nodes {
				old.Manifest.Nodes[name] = oldManifestNode{manifestNode: node, PublicAddress: node.PublicAddress}
			}
		}
		return old
	case allocationLogsReply:
		return oldAllocationLogsReply{reply.Stdout, reply.Stderr, reply.Error}
	}
	return reply
}
