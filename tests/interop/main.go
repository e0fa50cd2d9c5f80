// Command dms-peer is a small peer of the DMS actor protocol on go-libp2p, written from the protocol notes and apart from
// the Rust code, so that the two can be held against each other.
//
//	dms-peer serve  --seed <64 hex> [--root <did>]… [--listen <multiaddr>] [--polite] [--spelling old] [--topic <topic>]
//	dms-peer invoke --seed <64 hex> --to <multiaddr/p2p/…> --behaviour <path> [--message <json>] [--grant <token json>]
//	dms-peer talk   --seed <64 hex> --to <multiaddr/p2p/…> [--grant <token json>]
//	dms-peer echo   --seed <64 hex> [--listen <multiaddr>] [--polite]
//	dms-peer trips  --seed <64 hex> --to <multiaddr/p2p/…> [--polite]
//	dms-peer bare   --signs <n> --verifies <n>
//	dms-peer rewrite | verify | mint | judge
//	dms-peer keystore seal --seed <64 hex> --id <name> | open --file <key file>
//
// The first three print one JSON object a line. `serve` runs until its standard input ends, and takes orders to lie there;
// `invoke` ends with 3 when no reply came; `talk` makes each line of its standard input a call, all over one connection.
// The next three are the other end of the bench. The next four answer each line of their standard input with one line:
// they read and write the types of the protocol, check and make signatures, and judge by a context file. `keystore` takes
// its passphrase from DMS_PASSPHRASE.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// One line of output.
type event struct {
	Event     string          `json:"event"`
	Addresses []string        `json:"addresses,omitempty"`
	Peer      string          `json:"peer,omitempty"`
	DID       string          `json:"did,omitempty"`
	Behaviour string          `json:"behaviour,omitempty"`
	Reason    string          `json:"reason,omitempty"`
	Detail    string          `json:"detail,omitempty"`
	Dropped   uint64          `json:"dropped,omitempty"`
	Message   json.RawMessage `json:"message,omitempty"`
	Micros    int64           `json:"micros,omitempty"`
	// Connections to the node that was called, since the start.
	Connections int64  `json:"connections,omitempty"`
	Topic       string `json:"topic,omitempty"`
}

func printer(out io.Writer) func(any) {
	var one sync.Mutex
	encoder := json.NewEncoder(out)
	return func(line any) {
		one.Lock()
		defer one.Unlock()
		_ = encoder.Encode(line)
	}
}

type dids []DID

func (d *dids) String() string { return fmt.Sprint(*d) }

func (d *dids) Set(text string) error {
	did := DID{URI: text}
	if _, err := keyOfDID(did); err != nil {
		return err
	}
	*d = append(*d, did)
	return nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "dms-peer: say serve, invoke, talk, echo, trips, bare, keystore, rewrite, verify, mint or judge")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "invoke":
		err = invoke(os.Args[2:])
	case "talk":
		err = talk(os.Args[2:])
	case "keystore":
		err = keystore(os.Args[2:])
	case "echo":
		err = echo(os.Args[2:])
	case "trips":
		err = trips(os.Args[2:])
	case "bare":
		err = bare(os.Args[2:])
	case "rewrite":
		err = answerLines(os.Stdin, os.Stdout, rewrite)
	case "verify":
		err = answerLines(os.Stdin, os.Stdout, verify)
	case "mint":
		err = answerLines(os.Stdin, os.Stdout, mint)
	case "judge":
		err = answerLines(os.Stdin, os.Stdout, judge)
	default:
		err = fmt.Errorf("no command %q: say serve, invoke, talk, echo, trips, bare, keystore, rewrite, verify, mint or judge", os.Args[1])
	}
	if errors.Is(err, errNoReply) {
		os.Exit(3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dms-peer:", err)
		os.Exit(1)
	}
}
