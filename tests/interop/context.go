package main

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Context is a capability context as it stands in a `.cap` file.
type Context struct {
	DID     DID       `json:"did"`
	Roots   []DID     `json:"roots"`
	Require TokenList `json:"require"`
	Provide TokenList `json:"provide"`
	Revoke  TokenList `json:"revoke"`
}

// loadContext reads a context file: what has expired is dropped, and anything else that is wrong refuses the whole.
func loadContext(text []byte, now uint64) (Trust, error) {
	var context Context
	if err := json.Unmarshal(text, &context); err != nil {
		return Trust{}, err
	}
	trust := Trust{self: context.DID, roots: context.Roots}
	for _, list := range []struct {
		tokens []Token
		revoke bool
		into   *[]Token
	}{{context.Revoke.Tokens, true, &trust.revoke}, {context.Require.Tokens, false, &trust.require},
		{context.Provide.Tokens, false, new([]Token)}} {
		for _, token := range list.tokens {
			if token.expired(now) {
				continue
			}
			if err := trust.verify(token, now); err != nil {
				return Trust{}, err
			}
			if list.revoke != (token.DMS.Action == "revoke") {
				return Trust{}, fmt.Errorf("a token to %s is in the wrong list", token.DMS.Action)
			}
			*list.into = append(*list.into, token)
		}
	}
	return trust, nil
}

// Trust is what a node decides by.
type Trust struct {
	self    DID
	roots   []DID
	require []Token
	revoke  []Token
}

// verify checks a token and that none of its links was revoked.
func (t Trust) verify(token Token, now uint64) error {
	if err := token.verify(now, 0); err != nil {
		return err
	}
	for link := &token; link != nil; link = link.DMS.Chain {
		if link.DMS.Action != "revoke" && slices.ContainsFunc(t.revoke, link.revokedBy) {
			return fmt.Errorf("the token of %s was revoked", link.DMS.Issuer.URI)
		}
	}
	return nil
}

func (t *Token) revokedBy(revocation Token) bool {
	return revocation.DMS.Issuer == t.DMS.Issuer && revocation.DMS.Subject == t.DMS.Subject &&
		slices.Equal(revocation.DMS.Nonce, t.DMS.Nonce)
}

// expired says whether this token or a link above it has expired.
func (t Token) expired(now uint64) bool {
	for link := &t; link != nil && link.DMS != nil; link = link.DMS.Chain {
		if link.DMS.Expire < now {
			return true
		}
	}
	return false
}

// admits says whether a require anchor lets a token in.
func (t Token) admits(token Token) bool {
	anchor, c := *t.DMS, *token.DMS
	distance, found := token.distance(anchor.Subject)
	return found && anchor.Action == "delegate" && anchor.Expire >= c.Expire &&
		(anchor.Depth == 0 || distance <= anchor.Depth) &&
		(anchor.Audience == DID{} || anchor.Audience == c.Audience) &&
		allImplied(anchor.Capabilities, c.Capabilities) && allImplied(anchor.Topics, c.Topics)
}

// distance is the number of links below the deepest one that `issuer` issued.
func (t Token) distance(issuer DID) (deepest uint64, found bool) {
	below := uint64(0)
	for link := &t; link != nil; link = link.DMS.Chain {
		if link.DMS.Issuer == issuer {
			deepest, found = below, true
		}
		below++
	}
	return
}

func allImplied(granted, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(one string) bool { return !anyImplies(granted, one) })
}
