// Command dms-peer is a small peer of the DMS actor protocol on go-libp2p, written from the protocol notes and apart from
// the Rust code, so that the two can be held against each other.
//
//	dms-peer serve  --seed <64 hex> [--root <did>]… [--listen <multiaddr>] [--polite]
//	dms-peer invoke --seed <64 hex> --to <multiaddr/p2p/…> --behaviour <path> [--message <json>] [--grant <token json>]
//	dms-peer rewrite | verify | mint | judge
//	dms-peer keystore seal --seed <64 hex> --id <name> | open --file <key file>
//
// The first two print one JSON object a line. `serve` runs until its standard input ends; `invoke` ends with 3 when no
// reply came. The next four answer each line of their standard input with one line: they read and write the types of the
// protocol, check and make signatures, and judge by a context file. `keystore` takes its passphrase from DMS_PASSPHRASE.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
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
		fmt.Fprintln(os.Stderr, "dms-peer: say serve, invoke, keystore, rewrite, verify, mint or judge")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2:])
	case "invoke":
		err = invoke(os.Args[2:])
	case "keystore":
		err = keystore(os.Args[2:])
	case "rewrite":
		err = answerLines(os.Stdin, os.Stdout, rewrite)
	case "verify":
		err = answerLines(os.Stdin, os.Stdout, verify)
	case "mint":
		err = answerLines(os.Stdin, os.Stdout, mint)
	case "judge":
		err = answerLines(os.Stdin, os.Stdout, judge)
	default:
		err = fmt.Errorf("no command %q: say serve, invoke, keystore, rewrite, verify, mint or judge", os.Args[1])
	}
	if errors.Is(err, errNoReply) {
		os.Exit(3)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dms-peer:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	seed := flags.String("seed", "", "seed of the key, 64 hex digits")
	listen := flags.String("listen", "/ip4/127.0.0.1/tcp/0", "multiaddress to listen on")
	polite := flags.Bool("polite", false, "streams in the manner of a go-libp2p host, not of a DMS")
	var roots dids
	flags.Var(&roots, "root", "DID trusted for everything (repeatable)")
	_ = flags.Parse(args)
	key, err := KeyFromSeed(*seed)
	if err != nil {
		return err
	}
	self, err := key.Handle("root")
	if err != nil {
		return err
	}
	link, err := NewLink(key, *polite, *listen)
	if err != nil {
		return err
	}
	defer link.host.Close()
	report := printer(os.Stdout)
	node := &Node{key: key, self: self, roots: roots, link: link, report: report}
	node.nonce.Store(uint64(time.Now().UnixNano()))
	link.Listen("root", node.receive, func(from peer.ID, err error) { node.drop(from, drop{"BrokenStream", err}) })
	var addresses []string
	for _, one := range link.host.Addrs() {
		addresses = append(addresses, one.String())
	}
	report(event{Event: "listening", Addresses: addresses, Peer: self.Address.Host, DID: self.DID.URI})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func invoke(args []string) error {
	flags := flag.NewFlagSet("invoke", flag.ExitOnError)
	seed := flags.String("seed", "", "seed of the key, 64 hex digits")
	to := flags.String("to", "", "multiaddress of the node, with /p2p/")
	behaviour := flags.String("behaviour", "/dms/node/peers/self", "what to invoke")
	message := flags.String("message", "{}", "payload of the request")
	timeout := flags.Duration("timeout", 10*time.Second, "how long to wait for the reply")
	grant := flags.String("grant", "", "token of the node's owner to chain the invocation on")
	polite := flags.Bool("polite", false, "streams in the manner of a go-libp2p host, not of a DMS")
	spoil := flags.String("spoil", "", "make the request wrong: signature, expired, host or no-cap")
	_ = flags.Parse(args)
	key, err := KeyFromSeed(*seed)
	if err != nil {
		return err
	}
	address, err := peer.AddrInfoFromString(*to)
	if err != nil {
		return err
	}
	call := Call{key: key, to: *address, behaviour: *behaviour, message: []byte(*message), timeout: *timeout, spoil: *spoil}
	if *grant != "" {
		call.grant = &Token{}
		if err := json.Unmarshal([]byte(*grant), call.grant); err != nil {
			return fmt.Errorf("the grant is no token: %w", err)
		}
	}
	if call.link, err = NewLink(key, *polite); err != nil {
		return err
	}
	defer call.link.host.Close()
	report := printer(os.Stdout)
	start := time.Now()
	reply, err := call.Run(report)
	if err != nil {
		return err
	}
	report(event{Event: "reply", Peer: address.ID.String(), Behaviour: *behaviour, Message: reply,
		Micros: time.Since(start).Microseconds()})
	return nil
}
