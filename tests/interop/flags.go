package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What all commands have in common that open a link.
type linkFlags struct {
	*flag.FlagSet
	seed   *string
	polite *bool
}

func newLinkFlags(name string) linkFlags {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	return linkFlags{FlagSet: flags,
		seed:   flags.String("seed", "", "seed of the key, 64 hex digits"),
		polite: flags.Bool("polite", false, "streams in the manner of a go-libp2p host, not of a DMS")}
}

func (f linkFlags) open(listen ...string) (Key, *Link, error) {
	key, err := KeyFromSeed(*f.seed)
	if err != nil {
		return key, nil, err
	}
	link, err := NewLink(key, *f.polite, listen...)
	return key, link, err
}

// What `serve` and `echo` have in common: they listen.
type listenerFlags struct {
	linkFlags
	listen *string
}

func newListenerFlags(name string) listenerFlags {
	flags := newLinkFlags(name)
	return listenerFlags{flags, flags.String("listen", "/ip4/127.0.0.1/tcp/0", "multiaddress to listen on")}
}

// start opens the link; what it prints goes through `report`, and `listening` prints where it listens.
func (f listenerFlags) start() (key Key, link *Link, report func(any), err error) {
	key, link, err = f.open(*f.listen)
	return key, link, printer(os.Stdout), err
}

func (l *Link) listening(key Key) event {
	return event{Event: "listening", Addresses: l.addresses(), Peer: l.host.ID().String(), DID: key.DID().URI}
}

// What `invoke`, `talk` and `trips` have in common: they connect to a node.
type dialerFlags struct {
	linkFlags
	to *string
}

func newDialerFlags(name string) dialerFlags {
	flags := newLinkFlags(name)
	return dialerFlags{flags, flags.String("to", "", "multiaddress of the node, with /p2p/")}
}

func (f dialerFlags) start() (key Key, link *Link, to *peer.AddrInfo, err error) {
	if to, err = peer.AddrInfoFromString(*f.to); err == nil {
		key, link, err = f.open()
	}
	return key, link, to, err
}

// What `invoke` and `talk` have in common.
type callerFlags struct {
	dialerFlags
	grant *string
}

func newCallerFlags(name string) callerFlags {
	flags := newDialerFlags(name)
	return callerFlags{flags, flags.String("grant", "", "token of the node's owner to chain the invocation on")}
}

func (f callerFlags) connect(report func(any)) (*Caller, error) {
	var grant *Token
	if *f.grant != "" {
		grant = &Token{}
		if err := json.Unmarshal([]byte(*f.grant), grant); err != nil {
			return nil, fmt.Errorf("the grant is no token: %w", err)
		}
	}
	key, link, to, err := f.start()
	if err != nil {
		return nil, err
	}
	return NewCaller(key, link, *to, grant, report)
}
