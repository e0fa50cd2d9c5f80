package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

type corpusCase struct {
	Name     string
	Input    *string
	InputB64 string `json:"input_b64"`
	Context  struct{ Type string }
	Verdict  string
	Detail   struct{ Output string }
}

// What is written here must be what upstream's own code wrote, or it says nothing about the Rust side.
func TestCorpusBytes(t *testing.T) {
	text, err := os.ReadFile("../fixtures/capability/corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []json.RawMessage
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, raw := range cases {
		var kind struct{ Kind string }
		if err := json.Unmarshal(raw, &kind); err != nil {
			t.Fatal(err)
		}
		if kind.Kind != "json-bytes" {
			continue
		}
		var one corpusCase
		if err := json.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		count++
		input, err := base64.StdEncoding.DecodeString(one.InputB64)
		if one.Input != nil {
			input = []byte(*one.Input)
		} else if err != nil {
			t.Fatal(err)
		}
		output, err := rewrite(question{Type: one.Context.Type, JSON: input})
		if (err == nil) != (one.Verdict == "accept") || string(output) != one.Detail.Output {
			t.Errorf("%s: wrote %s (%v), upstream %s %s", one.Name, output, err, one.Verdict, one.Detail.Output)
		}
	}
	if count != 39 {
		t.Errorf("%d cases of bytes", count)
	}
}

func TestAnswers(t *testing.T) {
	questions := `{"type":"string","json":"IjwiIA=="}` + "\n" + `{"type":"none","json":""}` + "\n"
	var out bytes.Buffer
	if err := answerLines(strings.NewReader(questions), &out, rewrite); err != nil {
		t.Fatal(err)
	}
	want := `{"output":"Ilx1MDAzYyI="}` + "\n" + `{"error":"no type \"none\""}` + "\n"
	if out.String() != want {
		t.Errorf("answered %s", out.String())
	}
}

func TestKeystore(t *testing.T) {
	key, salt := seeded(t, "01"), make([]byte, 64)
	for i := range salt {
		salt[i] = byte(i)
	}
	file, err := seal(key, "user", "interop-test", salt, salt[:16])
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"28e4b67c7fa294224c2e47118ecd49703271ca10e35093ff0491c32693b641a1ad8ff38c5cd01698951e5063bfe90197162d0c34a5b8661165b69f6a363231a3a5a13733",
		"e316da616c85b6431d835c46f1db069b85dd265535520a29ebe1bf3cb7800dc0",
	} {
		if !strings.Contains(string(file), want) {
			t.Errorf("%s is not in %s", want, file)
		}
	}
}

func TestBid(t *testing.T) {
	n := seeded(t, "02")
	handle, err := n.Handle("root")
	if err != nil {
		t.Fatal(err)
	}
	bid, err := Bid{EnsembleID: "ens1", NodeID: "node1", Peer: handle.Address.Host, PubAddress: "203.0.113.7",
		Location: Location{Continent: "Europe", Country: "DE", City: "Berlin"}, Handle: handle}.Sign(n)
	if err != nil {
		t.Fatal(err)
	}
	signedBytes, _ := bid.signedBytes()
	check(t, "BID-9", signedBytes, 503, "d8f8b74a92e7158c2af443f91176aafe2da5b400177cc1d7760b712b49127500", bid.Signature,
		"1e7f79c97ac584a864244c8ff1f7f00980ea295f2512be24f7d28c50da288815d2ab90548ff16048ae7d43c60a70ca4f6627267f89ade9f9d34c916565f2e107")
	if err := bid.Verify(); err != nil {
		t.Errorf("BID-9: %v", err)
	}
	bid.NodeID = "node2"
	if bid.Verify() == nil {
		t.Error("a changed bid verifies")
	}
}
