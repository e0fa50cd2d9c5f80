package main

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// The other end of `make bench-device`: the transport alone, without an envelope in the frames.

// The inbox to which `echo` sends back what it got.
const echoInbox = "user-1"

// How long one trip may take.
const tripTimeout = 20 * time.Second

// echo sends each frame for root back to its sender, over a new stream.
func echo(args []string) error {
	flags := newListenerFlags("echo")
	_ = flags.Parse(args)
	key, link, report, err := flags.start()
	if err != nil {
		return err
	}
	defer link.host.Close()
	broken := func(from peer.ID, err error) {
		report(event{Event: "broken", Peer: from.String(), Detail: err.Error()})
	}
	link.Listen("root", func(from peer.ID, body []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
		defer cancel()
		if err := link.SendBody(ctx, from, echoInbox, body); err != nil {
			broken(from, err)
		}
	}, broken)
	report(link.listening(key))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Trips is what `trips` measured, in microseconds.
type Trips struct {
	Event     string  `json:"event"`
	Connect   float64 `json:"connect"`
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	PerSecond float64 `json:"per_second"`
}

// trips sends frames to an `echo` and awaits each, so many at a time. It answers each line `<count> <in flight> <size>`
// of its standard input with one line.
func trips(args []string) error {
	flags := newDialerFlags("trips")
	_ = flags.Parse(args)
	_, link, address, err := flags.start()
	if err != nil {
		return err
	}
	defer link.host.Close()
	report := printer(os.Stdout)
	t := &traveller{link: link, to: address.ID, awaited: map[uint64]chan struct{}{}}
	link.Listen(echoInbox, func(_ peer.ID, body []byte) { t.arrived(body) }, func(_ peer.ID, err error) {
		report(event{Event: "broken", Detail: err.Error()})
	})
	begun := time.Now()
	if err := link.host.Connect(context.Background(), *address); err != nil {
		return err
	}
	connect := micros(time.Since(begun))
	for {
		var count, inFlight, size int
		if _, err := fmt.Scanln(&count, &inFlight, &size); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		result, err := t.run(count, inFlight, size)
		if err != nil {
			return err
		}
		result.Connect = connect
		report(result)
	}
}

type traveller struct {
	link    *Link
	to      peer.ID
	one     sync.Mutex
	next    uint64
	awaited map[uint64]chan struct{}
}

func (t *traveller) arrived(body []byte) {
	if len(body) < 8 {
		return
	}
	t.one.Lock()
	defer t.one.Unlock()
	number := binary.LittleEndian.Uint64(body)
	if back, found := t.awaited[number]; found {
		delete(t.awaited, number)
		close(back)
	}
}

func (t *traveller) trip(size int) (time.Duration, error) {
	back := make(chan struct{})
	t.one.Lock()
	t.next++
	number := t.next
	t.awaited[number] = back
	t.one.Unlock()
	body := make([]byte, size)
	binary.LittleEndian.PutUint64(body, number)
	ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
	defer cancel()
	begun := time.Now()
	if err := t.link.SendBody(ctx, t.to, "root", body); err != nil {
		return 0, err
	}
	select {
	case <-back:
		return time.Since(begun), nil
	case <-ctx.Done():
		return 0, errors.New("a frame did not come back")
	}
}

func (t *traveller) run(count, inFlight, size int) (Trips, error) {
	took := make([]time.Duration, count)
	failed := make(chan error, inFlight)
	var everybody sync.WaitGroup
	begun := time.Now()
	for worker := range inFlight {
		everybody.Go(func() {
			for number := worker; number < count; number += inFlight {
				var err error
				if took[number], err = t.trip(size); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	everybody.Wait()
	all := time.Since(begun)
	close(failed)
	if err := <-failed; err != nil {
		return Trips{}, err
	}
	slices.Sort(took)
	return Trips{Event: "trips", P50: micros(took[count/2]), P99: micros(took[count*99/100]),
		PerSecond: float64(count) / all.Seconds()}, nil
}

// bare signs and verifies so often, and prints how long that takes in the middle of many rounds.
func bare(args []string) error {
	flags := flag.NewFlagSet("bare", flag.ExitOnError)
	signs := flags.Int("signs", 0, "signatures to make")
	verifies := flags.Int("verifies", 0, "signatures to check")
	size := flags.Int("size", 1024, "bytes that are signed")
	rounds := flags.Int("rounds", 500, "rounds")
	_ = flags.Parse(args)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	message := make([]byte, *size)
	signature := ed25519.Sign(private, message)
	took := make([]time.Duration, *rounds)
	for round := range took {
		begun := time.Now()
		for range *signs {
			signature = ed25519.Sign(private, message)
		}
		for range *verifies {
			if !ed25519.Verify(public, message, signature) {
				return errors.New("a signature of our own does not verify")
			}
		}
		took[round] = time.Since(begun)
	}
	slices.Sort(took)
	printer(os.Stdout)(Trips{Event: "bare", P50: micros(took[len(took)/2]), P99: micros(took[len(took)*99/100])})
	return nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
