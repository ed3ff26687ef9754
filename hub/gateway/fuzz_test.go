// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/drover-io/drover/shared/wire"
)

// message is what the broker made of a publication.
type message struct{ Subject, Reply, Data string }

// FuzzFilter sends what passes the filter to a real nats-server, and asserts that
// the server executes exactly what the filter saw.
func FuzzFilter(f *testing.F) {
	const ok = "fm.aaa.up.svc.x"
	for _, seed := range []string{
		pub(ok, "", "body") + "PING\r\n",
		pub(ok, "_INBOX_aaa.x", "PUB fm.bbb.down.hint 0\r\n\r\n"),
		hpub(ok, "A: b\r\n", "body") + "SUB _INBOX_aaa.> 1\r\nUNSUB 1\r\nPONG\r\n",
		"PUB " + ok + "\r 100\r\n" + strings.Repeat("x", 100) + "\r\n",
		"PUB " + ok + " 100\rPUB\n",
		"pub\t" + ok + "\t0004\r\nbody\r\n",
		"SUB fm.aaa.down.hint 1\r\nUNSUB 1 10\r\n" + pub(ok, "", ""),
		hpub(ok, "Nats-Rollup: all\r\n", "x"),
		"PUB " + ok + " 4\nbody\n",
	} {
		f.Add([]byte(seed), uint8(7))
	}
	h := newHub(f, nil)
	arrived, err := h.nc.SubscribeSync(">")
	if err != nil {
		f.Fatal(err)
	}
	if err := arrived.SetPendingLimits(-1, -1); err != nil {
		f.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		guard := loggedIn()
		var passed []byte
		for rest := in; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			out, bad := guard.feed(nil, rest[:n])
			if bad != nil {
				break
			}
			passed, rest = append(passed, out...), rest[n:]
		}
		want, complete := published(t, passed)
		if len(passed) == 0 {
			return
		}

		agent := h.direct(t, "aaa")
		agent.send(string(passed))
		if complete {
			for _, line := range agent.sync() {
				if strings.HasPrefix(line, "-ERR") && !strings.Contains(line, "maximum subscriptions exceeded") {
					t.Fatalf("server answers %q to %q", line, passed)
				}
			}
		} else {
			agent.conn.(interface{ Close() error }).Close()
		}
		if err := h.nc.Flush(); err != nil {
			t.Fatal(err)
		}
		var got []message
		for {
			n, _, err := arrived.Pending()
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			msg, err := arrived.NextMsg(patience)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(msg.Subject, "_INBOX_aaa.") && msg.Header.Get("Status") == "503" {
				continue // the server's word that nobody answers
			}
			for key := range msg.Header {
				if strings.HasPrefix(strings.ToLower(key), reserved) {
					t.Fatalf("header %q arrived", key)
				}
			}
			got = append(got, message{msg.Subject, msg.Reply, string(msg.Data)})
		}
		if !complete {
			// The server may have seen less, never more or other.
			if len(got) > len(want) {
				t.Fatalf("got %q, want at most %q", got, want)
			}
			want = want[:len(got)]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q: %s", passed, diff)
		}
	})
}

// published reads a stream that passed the filter the simple way: lines that end
// in CRLF, fields between single spaces. complete is false if it stops in the
// middle of something.
func published(t *testing.T, stream []byte) (messages []message, complete bool) {
	for len(stream) > 0 {
		line, rest, found := bytes.Cut(stream, []byte("\r\n"))
		if !found {
			return messages, false
		}
		stream = rest
		fields := strings.Split(string(line), " ")
		if !strings.HasSuffix(fields[0], "PUB") {
			continue
		}
		numbers := 1
		if fields[0] == "HPUB" {
			numbers = 2
		}
		size, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil {
			t.Fatalf("passed %q", line)
		}
		head := 0
		if numbers == 2 {
			if head, err = strconv.Atoi(fields[len(fields)-2]); err != nil {
				t.Fatalf("passed %q", line)
			}
		}
		if len(stream) < size+2 {
			return messages, false
		}
		m := message{Subject: fields[1], Data: string(stream[head:size])}
		if len(fields) == numbers+3 {
			m.Reply = fields[2]
		}
		if !strings.HasPrefix(m.Subject, wire.UpPrefix("aaa")) || (m.Reply != "" && !strings.HasPrefix(m.Reply, "_INBOX_aaa.")) {
			t.Fatalf("passed %q", line)
		}
		messages = append(messages, m)
		stream = stream[size+2:]
	}
	return messages, true
}
