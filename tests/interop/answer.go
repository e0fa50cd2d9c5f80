package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// One question, one line of standard input. Which members are read depends on what is asked.
type question struct {
	Type       string   `json:"type"`
	JSON       []byte   `json:"json"`
	Seeds      []string `json:"seeds"`
	Now        uint64   `json:"now"`
	Tokens     []byte   `json:"tokens"`
	Subject    DID      `json:"subject"`
	Capability string   `json:"capability"`
}

// One answer, one line of standard output.
type answer struct {
	Output []byte `json:"output,omitempty"`
	Error  string `json:"error,omitempty"`
}

// answerLines answers line by line until the input ends.
func answerLines(in io.Reader, out io.Writer, give func(question) ([]byte, error)) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	encoder := json.NewEncoder(out)
	for {
		var one question
		err := lines.Decode(&one)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("a line is no question: %w", err)
		}
		var line answer
		if line.Output, err = give(one); err != nil {
			line = answer{Error: err.Error()}
		}
		if err := encoder.Encode(line); err != nil {
			return err
		}
	}
}

// The types of the protocol by the names that the corpus has for them, and the wrapped token and the bid.
var kinds = map[string]func() any{
	"string":       func() any { return new(string) },
	"uint64":       func() any { return new(uint64) },
	"bytes":        func() any { return new([]byte) },
	"did":          func() any { return new(DID) },
	"id":           func() any { return new(ID) },
	"handle":       func() any { return new(Handle) },
	"dms-token":    func() any { return new(Claims) },
	"token":        func() any { return new(Token) },
	"tokenlist":    func() any { return new(TokenList) },
	"envelope":     func() any { return new(Envelope) },
	"context-file": func() any { return new(Context) },
	"bid":          func() any { return new(SignedBid) },
}

// rewrite reads a value as Go does and writes it as Go does.
func rewrite(q question) ([]byte, error) {
	kind, found := kinds[q.Type]
	if !found {
		return nil, fmt.Errorf("no type %q", q.Type)
	}
	value := kind()
	if err := json.Unmarshal(q.JSON, value); err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// verify checks every signature of a value over the bytes that Go writes for it, and gives the value as Go writes it.
func verify(q question) ([]byte, error) {
	var err error
	switch q.Type {
	case "token":
		var token Token
		if err = json.Unmarshal(q.JSON, &token); err == nil {
			err = token.verify(q.Now, 0)
		}
	case "envelope":
		var envelope Envelope
		if err = json.Unmarshal(q.JSON, &envelope); err == nil {
			_, err = envelope.Verify(q.Now)
		}
	case "bid":
		var bid SignedBid
		if err = json.Unmarshal(q.JSON, &bid); err == nil {
			err = bid.V1.Verify()
		}
	default:
		err = fmt.Errorf("nobody signs the type %q", q.Type)
	}
	if err != nil {
		return nil, err
	}
	return rewrite(q)
}

// mint signs what it is given: an envelope or a bid with the one seed, or the claims of a chain, the root first, each with
// the seed at its place. Nothing is checked, so that wrong tokens can be made too.
func mint(q question) ([]byte, error) {
	keys := make([]Key, len(q.Seeds))
	for i, seed := range q.Seeds {
		key, err := KeyFromSeed(seed)
		if err != nil {
			return nil, err
		}
		keys[i] = key
	}
	if len(keys) == 0 {
		return nil, errors.New("nobody signs without a seed")
	}
	switch q.Type {
	case "token":
		return mintChain(q.JSON, keys)
	case "envelope":
		var envelope Envelope
		if err := json.Unmarshal(q.JSON, &envelope); err != nil {
			return nil, err
		}
		signed, err := envelope.Sign(keys[0])
		if err != nil {
			return nil, err
		}
		return json.Marshal(signed)
	case "bid":
		var bid SignedBid
		if err := json.Unmarshal(q.JSON, &bid); err != nil {
			return nil, err
		}
		signed, err := bid.V1.Sign(keys[0])
		if err != nil {
			return nil, err
		}
		return json.Marshal(SignedBid{signed})
	}
	return nil, fmt.Errorf("nobody signs the type %q", q.Type)
}

func mintChain(text []byte, keys []Key) ([]byte, error) {
	var links []Claims
	if err := json.Unmarshal(text, &links); err != nil {
		return nil, err
	}
	if len(links) != len(keys) {
		return nil, fmt.Errorf("%d links for %d seeds", len(links), len(keys))
	}
	var above *Token
	for i, claims := range links {
		claims.Chain = above
		token, err := claims.Sign(keys[i])
		if err != nil {
			return nil, err
		}
		above = &token
	}
	return json.Marshal(above)
}

// judge says whether by a context file one of the tokens lets the subject invoke the capability.
func judge(q question) ([]byte, error) {
	trust, err := loadContext(q.JSON, q.Now)
	if err != nil {
		return nil, fmt.Errorf("the context does not load: %w", err)
	}
	tokens, err := parseTokens(q.Tokens)
	if err != nil {
		return nil, err
	}
	return []byte("allowed"), trust.authorise(tokens, q.Subject, q.Capability, q.Now)
}
