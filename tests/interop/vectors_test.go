package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The vectors are upstream's: lengths, hashes and signatures of its own code over keys of one repeated byte.

const expire = 1767225600000000000

func seeded(t *testing.T, digit string) Key {
	t.Helper()
	key, err := KeyFromSeed(strings.Repeat(digit, 32))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func nonce(first byte) []byte {
	out := make([]byte, 12)
	for i := range out {
		out[i] = first + byte(i)
	}
	return out
}

func signed(t *testing.T, claims Claims, key Key) Token {
	t.Helper()
	token, err := claims.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func check(t *testing.T, name string, bytes []byte, length int, hash string, signature []byte, want string) {
	t.Helper()
	sum := sha256.Sum256(bytes)
	if len(bytes) != length || hex.EncodeToString(sum[:]) != hash {
		t.Errorf("%s: signed bytes are %d, sha256 %x:\n%s", name, len(bytes), sum, bytes)
	}
	if got := hex.EncodeToString(signature); got != want {
		t.Errorf("%s: signature %s, want %s", name, got, want)
	}
}

func checkToken(t *testing.T, name string, token Token, length int, hash, signature string) {
	t.Helper()
	bytes, err := token.DMS.signedBytes()
	if err != nil {
		t.Fatal(err)
	}
	check(t, name, bytes, length, hash, token.DMS.Signature, signature)
}

func TestIdentity(t *testing.T) {
	for _, one := range []struct{ seed, did, actor, peer string }{
		{"01", "did:key:z6Mkon3Necd6NkkyfoGoHxid2znGc59LU3K7mubaRcFbLfLX",
			"BAAREIEKRDR525AJ6GK72UW3FU6LUXLSZJTQTPY5SQJBX43URAA3ID3PLQ======", "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"},
		{"02", "did:key:z6Mko9hTggMwjSTEaJaPUfE6tqcy2xvU6BnNq3e3o8qVBiyH",
			"BAAREIEBHF3Q5KD5C5PVNI2UM3BUY7WMZOGYVENU5Y32EXPWB5NY7SNTSQ======", "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"},
		{"03", "did:key:z6MkvRXNYcE7MMduynWTgeKbDaT1iijDSC8pZqXZc8rHPrf2",
			"BAAREIHNJEUMMKGRYLDOV2IDHCIFTFLBFFMSOOS4MP4TMNWBIYKKZBZX2E======", "12D3KooWRndVhVZPCiQwHBBBdg769GyrPUW13zxwqQyf9r3ANaba"},
	} {
		key := seeded(t, one.seed)
		want := Handle{ID{Base32(one.actor)}, DID{one.did}, Address{one.peer, "root"}}
		if got, err := key.Handle("root"); err != nil || got != want {
			t.Errorf("seed %s: %+v, %v", one.seed, got, err)
		}
		fromDID, err := keyOfDID(DID{one.did})
		if err != nil || !bytes.Equal(fromDID, key.public()) {
			t.Errorf("%s: %x, %v", one.did, fromDID, err)
		}
		fromActor, err := keyOfActor(ID{Base32(one.actor)})
		if err != nil || !bytes.Equal(fromActor, key.public()) {
			t.Errorf("%s: %x, %v", one.actor, fromActor, err)
		}
	}
	for _, bad := range []string{"", "did:key:", "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9", "did:web:example.org"} {
		if _, err := keyOfDID(DID{bad}); err == nil {
			t.Errorf("%q was taken for an Ed25519 did:key", bad)
		}
	}
}

// T1, C1, C2, C3 of the vectors.
func tokens(t *testing.T) (t1, c1, c2, c3 Token) {
	u, n, o := seeded(t, "01"), seeded(t, "02"), seeded(t, "03")
	t1 = signed(t, Claims{Action: "invoke", Issuer: u.DID(), Subject: u.DID(), Audience: n.DID(),
		Capabilities: []string{"/dms/node/peers/list"}, Nonce: nonce(0), Expire: expire}, u)
	c1 = signed(t, Claims{Action: "delegate", Issuer: n.DID(), Subject: u.DID(),
		Capabilities: []string{"/dms/node/deployment"}, Nonce: nonce(0xa0), Expire: expire}, n)
	c2 = signed(t, Claims{Action: "delegate", Issuer: u.DID(), Subject: o.DID(),
		Capabilities: []string{"/dms/node/deployment/new"}, Nonce: nonce(0xb0), Expire: expire, Chain: &c1}, u)
	c3 = signed(t, Claims{Action: "invoke", Issuer: o.DID(), Subject: o.DID(), Audience: n.DID(),
		Capabilities: []string{"/dms/node/deployment/new"}, Nonce: nonce(0xc0), Expire: expire, Chain: &c2}, o)
	return
}

func TestTokens(t *testing.T) {
	t1, c1, c2, c3 := tokens(t)
	checkToken(t, "T1", t1, 329, "f12c347cc41a23fb9a9b45bd25fb48d161800ee1e21575880165941cddcc61a2",
		"2ef28410ec48c9306692b23a39c1b8a3ceda521142f56e67ae4ec4e37ee808b31de0064c771f041a6c17f87b7e9a45c9891e1a29cb813b64a516431715acd609")
	checkToken(t, "C1", c1, 267, "a9b73db1e7a670353356ae0c6dd3e24572510f3ca60fd7628278f23706da0adf",
		"be3209923ea758a27a158a2770b4fce2ff60b11df0fe1ff7a5707cee558977c73bfa89fd86fea28d8b6636cce60f54c0e3ce838d960b65a7eaefbb97f45d4a0b")
	checkToken(t, "C2", c2, 642, "ba09bd4c6afa775de3d291c0cb609bb5c0a08b3dd9f226974d96b6db3c358456",
		"a32569797732927c55d881a8bf724407f0c3cf39c8ea29bd7b2a591aa2d23441971ead1c14be4e6e849033b61a49e83c25d172e9151a0a370aef151c127f6a03")
	checkToken(t, "C3", c3, 1079, "74f6a18ccbff88870fb4080c53f87d50da200e50892412133f8222166e11a8c6",
		"e25681fa80fb9409f42c7555b0522444996f711631ebadca89e2f26efb413eb1ccc4f7c5405e04dba7f96fccef5bcccfce14904efdfe8d9020872f504695bc04")
	u := seeded(t, "01")
	b1 := signed(t, Claims{Action: "broadcast", Issuer: u.DID(), Subject: u.DID(), Topics: []string{"/nunet/hello"},
		Capabilities: []string{"/broadcast/hello"}, Nonce: nonce(0xd0), Expire: expire}, u)
	checkToken(t, "B1", b1, 289, "e8bf569f74a7cda34cca380a57f7ed3fe2c77c2ceb15a0b935a399c2699d3de7",
		"d0fb5df591cec875d80fb615b588aef55f5492abd61fa0dafa3e3d3b3f12f9e81cc668ab46eca67a4444bb8e9add9202653af7dac70b242e5336f6731b2ac50a")
}

func TestEnvelopes(t *testing.T) {
	u, n := seeded(t, "01"), seeded(t, "02")
	to, err := n.Handle("root")
	if err != nil {
		t.Fatal(err)
	}
	// The REST recipe, which the vectors follow, names the node's host as the sender's.
	from := Handle{actorOf(u.public()), u.DID(), Address{to.Address.Host, "user-1767225570000000000"}}
	t1, _, _, _ := tokens(t)
	list, err := json.Marshal(TokenList{[]Token{t1}})
	if err != nil {
		t.Fatal(err)
	}
	e1, err := Envelope{To: to, Behaviour: "/dms/node/peers/list", From: from, Nonce: 1767225570000000001,
		Options: Options{Expire: expire, Continuation: "/private/user/1767225570000000001"},
		Message: []byte("{}"), Capabilities: list}.Sign(u)
	if err != nil {
		t.Fatal(err)
	}
	signedBytes, _ := e1.signedBytes()
	check(t, "E1", signedBytes, 1258, "e35535d2c0c5d4a8a6a48c7a4be48edcb62a889cefc70f767873b6faebfa98a8", e1.Signature,
		"76d1561b3bc894eed2fa1884d8669828a90582280c25b619eecd93595d324f3de05c9cd8df58f3ba2e4048351f8d5e823a4fa0d60cd6b2288bc9248edf070b0d")
	whole, _ := json.Marshal(e1)
	if sum := sha256.Sum256(whole); len(whole) != 1347 || hex.EncodeToString(sum[:]) != "d16101c5aec65539df18247b9a63a4842abb891a218351a440ea85a5a5aaf8a8" {
		t.Errorf("E1 as a whole: %d bytes, sha256 %x", len(whole), sum)
	}
	if header := hex.EncodeToString(binary.LittleEndian.AppendUint64(nil, uint64(len(whole)))); header != "4305000000000000" {
		t.Errorf("length of E1: %s", header)
	}
	if signer, err := e1.Verify(expire); err != nil || signer != u.DID() {
		t.Errorf("E1 does not verify: %v %v", signer, err)
	}
	if _, err := e1.Verify(expire + 1); err == nil {
		t.Error("E1 verifies a nanosecond too late")
	}
	from.Address.Inbox = "user-1"
	e2, err := Envelope{To: to, Behaviour: "/dms/node/peers/list", From: from, Nonce: 7, Options: Options{Expire: expire}}.Sign(u)
	if err != nil {
		t.Fatal(err)
	}
	signedBytes, _ = e2.signedBytes()
	check(t, "E2", signedBytes, 586, "faef1f50527fc1969dcec8306fee98c783f38e794d5c812b740456208ea2b449", e2.Signature,
		"3e6280e7128b38b954feedee294c5743c5d06c70a27d64931a1874ab474014f3988f1e3803a81fad7db8e4f8a178b2b5e677c2e4540f5c01d071105c7466e605")
	e3, err := Envelope{Behaviour: "/broadcast/hello", From: from, Nonce: 8, Message: []byte("null"),
		Options: Options{Expire: expire, Continuation: "/public/user/8", Topic: "/nunet/hello"}}.Sign(u)
	if err != nil {
		t.Fatal(err)
	}
	signedBytes, _ = e3.signedBytes()
	check(t, "E3", signedBytes, 433, "1985379325ba0d7443907dc8467fd04fe92aac87ac8bcf909a44d51e15eafd10", e3.Signature,
		"27bcc2fa90334ca64620546bc0a6fb8f380e97d30915c05409f695bee2a2b1f2387fd49bb9b422fab943875460f30da05d935dc7791b0430a5ff525b0e986104")
}

func TestAuthorise(t *testing.T) {
	u, n, o := seeded(t, "01"), seeded(t, "02"), seeded(t, "03")
	t1, _, c2, c3 := tokens(t)
	tampered := *c3.DMS
	tampered.Signature = slices.Clone(tampered.Signature)
	tampered.Signature[5] ^= 1
	shallow := *c2.DMS.Chain.DMS
	shallow.Depth = 1
	limited := signed(t, shallow, n)
	link := *c2.DMS
	link.Chain = &limited
	second := signed(t, link, u)
	leaf := *c3.DMS
	leaf.Chain = &second
	tooDeep := signed(t, leaf, o)
	for _, one := range []struct {
		name       string
		token      Token
		subject    DID
		self       DID
		roots      []DID
		capability string
		now        uint64
		allowed    bool
	}{
		{"C3", c3, o.DID(), n.DID(), nil, "/dms/node/deployment/new", expire, true},
		{"C3 for another behaviour", c3, o.DID(), n.DID(), nil, "/dms/node/deployment/list", expire, false},
		{"C3 at another audience", c3, o.DID(), u.DID(), []DID{n.DID()}, "/dms/node/deployment/new", expire, false},
		{"C3 by another subject", c3, u.DID(), n.DID(), nil, "/dms/node/deployment/new", expire, false},
		{"C3 too late", c3, o.DID(), n.DID(), nil, "/dms/node/deployment/new", expire + 1, false},
		{"C3 tampered", Token{&tampered}, o.DID(), n.DID(), nil, "/dms/node/deployment/new", expire, false},
		{"a chain deeper than its root allows", tooDeep, o.DID(), n.DID(), nil, "/dms/node/deployment/new", expire, false},
		{"a delegation is no invocation", c2, o.DID(), n.DID(), nil, "/dms/node/deployment/new", expire, false},
		{"T1 without a root", t1, u.DID(), n.DID(), nil, "/dms/node/peers/list", expire, false},
		{"T1 of a root", t1, u.DID(), n.DID(), []DID{u.DID()}, "/dms/node/peers/list", expire, true},
	} {
		err := Trust{self: one.self, roots: one.roots}.authorise([]Token{one.token}, one.subject, one.capability, one.now)
		if (err == nil) != one.allowed {
			t.Errorf("%s: %v", one.name, err)
		}
	}
}

// Whoever reads a list takes its tokens for whole; a valid one beside it must not let an empty one through.
func TestEmptyTokens(t *testing.T) {
	t1, _, _, _ := tokens(t)
	for _, empty := range []string{`{}`, `null`, `{"dms":null}`, `{"other":{}}`} {
		valid, err := json.Marshal(t1)
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range []string{empty, string(valid) + "," + empty, empty + "," + string(valid)} {
			if got, err := parseTokens([]byte(`{"tok":[` + list + `]}`)); err == nil {
				t.Errorf("%s was read as %+v", list, got)
			}
		}
	}
}

func TestImplies(t *testing.T) {
	for _, one := range []struct {
		granted, wanted string
		want            bool
	}{
		{"/dms/node", "/dms/node", true}, {"/dms/node", "/dms/node/peers/list", true}, {"/dms/node", "/dms/nodeX", false},
		{"/dms/node/peers", "/dms/node", false}, {"/", "/anything", true},
	} {
		if got := implies(one.granted, one.wanted); got != one.want {
			t.Errorf("%s implies %s: %v", one.granted, one.wanted, got)
		}
	}
}
