package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func ask(t *testing.T, n *Node, behaviour, message string) string {
	t.Helper()
	found := n.find(behaviour)
	if found == nil {
		t.Fatalf("%s is not served", behaviour)
	}
	now := time.Now()
	reply, err := found(n, Ask{Envelope: Envelope{Message: []byte(message),
		Options: Options{Expire: uint64(now.Add(5 * time.Minute).UnixNano())}}, now: now})
	if err != nil {
		t.Fatal(err)
	}
	if n.old {
		reply = inOldSpelling(reply)
	}
	text, err := json.Marshal(reply)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func with(deployments ...*Deployment) *Node {
	return &Node{deployments: &Deployments{pace: time.Second, page: 2, all: deployments}}
}

func deployed(id string, ago time.Duration, metadata map[string]string) *Deployment {
	at := time.Now().Add(-ago)
	return &Deployment{id: id, ensemble: &Ensemble{Metadata: metadata}, created: at, updated: at, deadline: at.Add(time.Minute)}
}

func TestAListHasPagesAndItsFilterComesAfterThem(t *testing.T) {
	mine := map[string]string{"owner": "me"}
	n := with(deployed("a", 10*time.Second, nil), deployed("b", 2500*time.Millisecond, mine), deployed("c", 0, mine))
	for request, want := range map[string][]string{
		`{}`:                            {`"a","status":"Running"`, `"b","status":"Committing"`, `"total":3,"has_more":true,"next_offset":2`},
		`{"offset":2}`:                  {`"c","status":"Preparing"`, `"total":3,"has_more":false}`},
		`{"metadata":{"owner":"me"}}`:   {`"b"`, `"total":1,"has_more":true,"next_offset":2`},
		`{"status":[4]}`:                {`"a"`, `"total":1,"has_more":false`},
		`{"offset":-1}`:                 {`{"deployments":[],"total":0,"has_more":false}`},
		`{"created_after":"yesterday"}`: {`{"deployments":[],"total":0,"has_more":false}`},
	} {
		reply := ask(t, n, deploymentBehaviours+"list", request)
		for _, part := range want {
			if !strings.Contains(reply, part) {
				t.Errorf("%s gives %s, without %s", request, reply, part)
			}
		}
	}
}

func TestPruneTakesWhatIsOver(t *testing.T) {
	old, young, runs := deployed("old", 48*time.Hour, nil), deployed("young", time.Hour, nil), deployed("runs", 48*time.Hour, nil)
	old.stopped, young.stopped = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	n := with(old, young, runs)
	for _, one := range []struct {
		before string
		left   int
	}{{`"x"`, 3}, {`"1d"`, 2}, {`"30m"`, 1}} {
		ask(t, n, deploymentBehaviours+"prune", `{"before":`+one.before+`}`)
		if len(n.deployments.all) != one.left {
			t.Errorf("after %s %d are left", one.before, len(n.deployments.all))
		}
	}
}

func TestTheOldSpelling(t *testing.T) {
	n := with(deployed("a", 10*time.Second, nil), deployed("b", 10*time.Second, nil), deployed("c", 10*time.Second, nil))
	n.old = true
	for behaviour, want := range map[string]string{
		"list":   `{"Deployments":{"a":"Running","b":"Running","c":"Running"}}`,
		"status": `{"Status":"Running","Error":""}`,
		"delete": `{"OK":false,"Error":"failed to get deployment \"\": not found"}`,
	} {
		message := map[string]string{"list": "{}", "status": `{"id":"a"}`, "delete": "{}"}[behaviour]
		if reply := ask(t, n, deploymentBehaviours+behaviour, message); reply != want {
			t.Errorf("%s gives %s", behaviour, reply)
		}
	}
	if n.find(deploymentBehaviours+"logs/async") != nil {
		t.Error("an old release has no log jobs")
	}
}

func TestARequestWithAMemberTooManyIsNone(t *testing.T) {
	message := []byte(`{"id":"a","more":1}`)
	if _, err := deploymentStatus(with(), Ask{Envelope: Envelope{Message: message}, now: time.Now()}); err == nil {
		t.Error("it is taken")
	}
}

func TestAReplyIsTakenAsItIsSpelledOnly(t *testing.T) {
	for message, right := range map[string]bool{
		`{"status":"Running","error":""}`:                                 true,
		`{"Status":"Running","error":""}`:                                 false,
		`{"status":"Running","error":"","more":1}`:                        false,
		`{"status":1,"error":""}`:                                         false,
		`{"status":"","error":"","allocation_info":{"a":{"ip":""}}}`:      true,
		`{"status":"","error":"","allocation_info":{"a":{"IP":""}}}`:      false,
		`{"status":"","error":"","allocation_info":{"a":{"ip":"","":1}}}`: false,
	} {
		if err := checkReply(deploymentBehaviours+"status", json.RawMessage(message)); (err == nil) != right {
			t.Errorf("%s: %v", message, err)
		}
	}
	for message, right := range map[string]bool{
		`{"deployments":[{"created_at":"2026-01-01T00:00:00.5Z"}]}`: true,
		`{"deployments":[{"Created_at":"2026-01-01T00:00:00.5Z"}]}`: false,
		`{"deployments":[{"created_at":"yesterday"}]}`:              false,
	} {
		if err := checkReply(deploymentBehaviours+"list", json.RawMessage(message)); (err == nil) != right {
			t.Errorf("%s: %v", message, err)
		}
	}
}

func TestChunksJoinToTheWhole(t *testing.T) {
	all := writtenBy("web", 1000)
	var got []byte
	for offset := int64(0); ; {
		one := chunk(all, offset, offset, 300, "stdout")
		got = append(got, one.Data...)
		if one.Error != "" || one.TotalSize != int64(len(all)) {
			t.Fatal(one)
		}
		if offset = one.NextOffset; one.EOF {
			break
		}
	}
	if string(got) != string(all) {
		t.Error("something is missing")
	}
	for _, wrong := range [][2]int64{{-1, 0}, {int64(len(all)) + 1, 0}, {5, 6}} {
		if one := chunk(all, wrong[0], wrong[1], 0, "stdout"); one.Error == "" {
			t.Errorf("%v is answered", wrong)
		}
	}
}
