package main

import (
	"encoding/json"
	"time"
)

// The payloads of replies in the spelling of the newest version: what `serve` answers and what `talk` and `invoke` take.

type peersSelfReply struct {
	ID     string `json:"id"`
	Listen string `json:"listen_addr"`
}

type peersListReply struct{ Peers []string }

type peersPingReply struct {
	Error string
	RTT   int64
}

type peersConnectReply struct{ Status, Error string }

type helloReply struct{ DID DID }

type publicStatusReply struct {
	Status    string
	Resources Resources
}

// Outcome of what is capitalised; `lowerOutcome` of what is not.
type outcome struct {
	OK    bool
	Error string
}

type lowerOutcome struct {
	OK    bool   `json:"ok"`
	Error string `json:"error"`
}

type onboardingReply struct {
	Onboarded bool   `json:"onboarded"`
	Error     string `json:"error,omitempty"`
}

type onboardReply struct {
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
	Config  struct {
		Onboarded Resources `json:"onboarded_resources"`
	} `json:"config"`
}

type offboardReply struct {
	Success bool   `json:"success"`
	Error   string `json:"error,omitempty"`
}

type resourcesReply struct {
	OK        bool
	Resources Resources
	Error     string `json:"error,omitempty"`
}

type nodeStatusReply map[string]discovery

type discovery struct {
	Hostname  string          `json:"hostname"`
	DID       string          `json:"did"`
	Network   networkStatus   `json:"network"`
	Onboarded bool            `json:"onboarded"`
	Resources resourceFigures `json:"resources"`
	Config    json.RawMessage `json:"config,omitempty"`
	Errors    []string        `json:"errors,omitempty"`
}

type networkStatus struct {
	Interfaces []networkInterface `json:"interfaces"`
	P2P        peersSelfReply     `json:"p2p"`
}

type networkInterface struct {
	Name string   `json:"name"`
	IP   []string `json:"ip"`
	MAC  string   `json:"mac_address"`
}

type resourceFigures struct {
	Total     Resources `json:"total"`
	Onboarded Resources `json:"onboarded"`
	Allocated Resources `json:"allocated"`
	Free      Resources `json:"free"`
}

type newReply struct {
	Status     string
	EnsembleID string `json:",omitempty"`
	Error      string `json:",omitempty"`
}

type listReply struct {
	Deployments []listEntry `json:"deployments"`
	Total       int         `json:"total"`
	HasMore     bool        `json:"has_more"`
	NextOffset  int         `json:"next_offset,omitempty"`
}

type listEntry struct {
	ID        string            `json:"orchestrator_id"`
	Status    string            `json:"status"`
	Created   time.Time         `json:"created_at"`
	Updated   time.Time         `json:"updated_at"`
	Completed *time.Time        `json:"completed_at,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

type statusReply struct {
	Status          string                     `json:"status"`
	Error           string                     `json:"error"`
	AllocationInfo  map[string]allocationInfo  `json:"allocation_info,omitempty"`
	AllocationUsage map[string]json.RawMessage `json:"allocation_usage,omitempty"`
}

type allocationInfo struct {
	AllocationID   string        `json:"allocation_id"`
	Status         string        `json:"status"`
	HeartbeatSeq   uint64        `json:"heartbeat_seq"`
	HasHealthCheck bool          `json:"has_health_check"`
	Health         health        `json:"health"`
	ResourceLimit  Resources     `json:"resource_limit"`
	ResourceUsage  resourceUsage `json:"resource_usage"`
	DNSName        string        `json:"dns_name"`
	IP             string        `json:"ip"`
	Timestamp      time.Time     `json:"timestamp"`
}

type health struct {
	Healthy       bool      `json:"healthy"`
	LastCheckTime time.Time `json:"last_check_time"`
	Message       string    `json:"message"`
	CheckType     string    `json:"check_type"`
}

type resourceUsage struct {
	CPUPercent  float64 `json:"cpu_usage_percent"`
	MemoryUsed  uint64  `json:"memory_used_bytes"`
	MemoryLimit uint64  `json:"memory_limit_bytes"`
	Received    uint64  `json:"network_rx_bytes"`
	Sent        uint64  `json:"network_tx_bytes"`
}

type manifestReply struct {
	Manifest *Manifest `json:"manifest"`
	Error    string    `json:"error,omitempty"`
}

// Manifest is what became of an ensemble.
type Manifest struct {
	ID           string                        `json:"id"`
	Metadata     map[string]string             `json:"metadata"`
	Orchestrator Handle                        `json:"orchestrator"`
	Allocations  map[string]manifestAllocation `json:"allocations"`
	Nodes        map[string]manifestNode       `json:"nodes"`
	Subnet       struct {
		Join bool `json:"join"`
	} `json:"subnet"`
	Contracts map[string]struct {
		ID   string `json:"id"`
		DID  string `json:"did"`
		Host string `json:"host"`
	} `json:"contracts"`
}

type manifestAllocation struct {
	ID              string          `json:"id"`
	NodeID          string          `json:"node_id"`
	Type            string          `json:"type"`
	Handle          Handle          `json:"handle"`
	DNSName         string          `json:"dns_name"`
	PrivateAddress  string          `json:"priv_addr"`
	Ports           map[int]int     `json:"ports,omitempty"`
	HealthCheck     json.RawMessage `json:"healthcheck"`
	Status          string          `json:"status"`
	RedundancyGroup string          `json:"redundancy_group"`
	IsStandby       bool            `json:"is_standby"`
}

type manifestNode struct {
	ID             string   `json:"id"`
	Peer           string   `json:"peer"`
	Handle         Handle   `json:"handle"`
	PublicAddress  []string `json:"pub_address"`
	Location       Location `json:"location"`
	Allocations    []string `json:"allocations"`
	RedundancyRole string   `json:"redundancy_role"`
	PrimaryNode    string   `json:"primary_node"`
	StandbyNodes   []string `json:"standby_nodes"`
	StandbyIndex   int      `json:"standby_index"`
	Status         string   `json:"status"`
}

type infoReply struct {
	ID          string                       `json:"id"`
	Status      string                       `json:"status"`
	Error       string                       `json:"error,omitempty"`
	Manifest    *Manifest                    `json:"manifest"`
	Allocations map[string]infoAllocation    `json:"allocations"`
	Usage       map[string]map[string]uint64 `json:"usage,omitempty"`
}

type infoAllocation struct {
	allocationInfo
	ExecutorStats json.RawMessage `json:"executor_stats,omitempty"`
	Logs          *infoLogs       `json:"logs,omitempty"`
}

type infoLogs struct {
	Stdout    string `json:"stdout_path"`
	Stderr    string `json:"stderr_path"`
	WrittenTo string `json:"logs_written_to"`
	Error     string `json:"error,omitempty"`
}

type logsReply struct{ LogsWrittenTo, Error string }

type asyncLogsReply struct {
	LogsWrittenTo, Status string
	Follow                bool
	FollowInterval, Error string
}

type asyncStatusReply struct {
	LogsWrittenTo, Status string
	BytesWritten          int64
	Follow                bool
	FollowInterval, Error string
}

type asyncStopReply struct {
	LogsWrittenTo, Status string
	BytesWritten          int64
	Error                 string
}

type allocationLogsReply struct {
	Stdout     []byte `json:",omitempty"`
	Stderr     []byte `json:",omitempty"`
	Error      string `json:",omitempty"`
	Offset     int64  `json:"offset,omitempty"`
	NextOffset int64  `json:"next_offset,omitempty"`
	TotalSize  int64  `json:"total_size,omitempty"`
	EOF        bool   `json:"eof,omitempty"`
	Data       []byte `json:"data,omitempty"`
	Stream     string `json:",omitempty"`
}

// Resources of a node or an allocation.
type Resources struct {
	CPU struct {
		ClockSpeed   float64 `json:"clock_speed"`
		Cores        float64 `json:"cores"`
		Model        string  `json:"model,omitempty"`
		Vendor       string  `json:"vendor,omitempty"`
		Threads      int     `json:"threads,omitempty"`
		Architecture string  `json:"architecture,omitempty"`
		CacheSize    uint64  `json:"cache_size,omitempty"`
	} `json:"cpu"`
	GPUs []struct {
		Index   int    `json:"index"`
		Vendor  string `json:"vendor"`
		Address string `json:"pci_address"`
		Model   string `json:"model"`
		VRAM    uint64 `json:"vram"`
		UUID    string `json:"uuid"`
	} `json:"gpus,omitempty"`
	RAM struct {
		Size       float64 `json:"size"`
		ClockSpeed uint64  `json:"clock_speed,omitempty"`
		Type       string  `json:"type,omitempty"`
	} `json:"ram"`
	Disk struct {
		Size float64 `json:"size"`
		Type string  `json:"type,omitempty"`
	} `json:"disk"`
}
