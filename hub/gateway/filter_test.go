// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// loggedIn is a filter behind its CONNECT.
func loggedIn() *filter {
	f := newFilter("aaa", func([]byte) ([]byte, error) { return []byte("CONNECT {}\r\n"), nil })
	f.state = stateLine
	return f
}

func TestFilterRules(t *testing.T) {
	t.Parallel()
	const ok = "fm.aaa.up.svc.x"
	for _, tt := range []struct {
		name, in, want, rule string
	}{
		{"ping", "PING\r\n", "PING\r\n", ""},
		{"lower case", "pong\r\n", "PONG\r\n", ""},
		{"publish", pub(ok, "", "body"), "PUB fm.aaa.up.svc.x 4\r\nbody\r\n", ""},
		{"publish nothing", pub(ok, "", ""), "PUB fm.aaa.up.svc.x 0\r\n\r\n", ""},
		{"publish with reply", pub(ok, "_INBOX_aaa.b.c", "body"), "PUB fm.aaa.up.svc.x _INBOX_aaa.b.c 4\r\nbody\r\n", ""},
		{"protocol in payload", pub(ok, "", "PUB x 1\r\na\r\n"), pub(ok, "", "PUB x 1\r\na\r\n"), ""},
		{"spaces", "PUB \t " + ok + "  004 \r\nbody\r\n", pub(ok, "", "body"), ""},
		{"headers", hpub(ok, "A: b\r\nC:\r\n", "body"), hpub(ok, "A: b\r\nC:\r\n", "body"), ""},
		{"only headers", hpub(ok, "", ""), hpub(ok, "", ""), ""},
		{"sub", "SUB _INBOX_aaa.> 12\r\n", "SUB _INBOX_aaa.> 12\r\n", ""},
		{"sub hints", "SUB fm.aaa.down.hint 12\r\n", "SUB fm.aaa.down.hint 12\r\n", ""},
		{"unsub", "UNSUB 12 4\r\n", "UNSUB 12 4\r\n", ""},

		{"second connect", "CONNECT {}\r\n", "", ruleConnect},
		{"empty line", "\r\n", "", ruleVerb},
		{"leading space", " PING\r\n", "", ruleVerb},
		{"info", "INFO {}\r\n", "", ruleVerb},
		{"msg", "MSG a 1 1\r\na\r\n", "", ruleVerb},
		{"account", "A+ x\r\n", "", ruleVerb},
		{"route", "RS+ x y\r\n", "", ruleVerb},
		{"leaf", "LS+ x\r\n", "", ruleVerb},
		{"ok", "+OK\r\n", "", ruleVerb},
		{"ping with argument", "PING x\r\n", "", ruleVerb},
		{"bare newline", "PING\n", "", ruleBytes},
		{"return inside", "PUB " + ok + "\r 100\r\n", "", ruleBytes},
		{"return at size", "PUB " + ok + " 10\r\r\n", "", ruleBytes},
		{"smuggling", "PUB " + ok + "\r 100\n", "", ruleBytes},
		{"nul", "PUB " + ok + "\x00 1\r\n", "", ruleBytes},
		{"high byte", "PUB fm.aaa.up.\xc3\xa9 1\r\n", "", ruleBytes},
		{"vertical tab", "PUB\v" + ok + " 1\r\n", "", ruleBytes},
		{"long line", "PUB " + ok + strings.Repeat("x", 5000) + " 1\r\n", "", ruleLength},
		{"endless line", strings.Repeat("x", 5000), "", ruleLength},

		{"no size", "PUB " + ok + "\r\n", "", ruleFields},
		{"too many", "PUB " + ok + " _INBOX_aaa.x 1 1\r\n", "", ruleFields},
		{"far too many", "PUB a b c d e f g\r\n", "", ruleFields},
		{"negative", "PUB " + ok + " -1\r\n", "", ruleSize},
		{"sign", "PUB " + ok + " +1\r\n", "", ruleSize},
		{"hex", "PUB " + ok + " 0x1\r\n", "", ruleSize},
		{"too large", "PUB " + ok + " 1048577\r\n", "", ruleSize},
		{"overflow", "PUB " + ok + " 18446744073709551617\r\n", "", ruleSize},
		{"longer than said", "PUB " + ok + " 1\r\nab\r\n", "", ruleSize},
		{"end is newline", "PUB " + ok + " 1\r\na\n", "", ruleSize},
		{"header longer than all", "HPUB " + ok + " 20 10\r\n", "", ruleSize},
		{"large header", "HPUB " + ok + " 5000 6000\r\n", "", ruleHeader},
		{"no header", "HPUB " + ok + " 0 1\r\n", "", ruleHeader},

		{"another's subject", pub("fm.bbb.up.svc.x", "", ""), "", ruleSubject},
		{"prefix of a name", pub("fm.aaab.up.svc.x", "", ""), "", ruleSubject},
		{"wildcard", pub("fm.aaa.up.*", "", ""), "", ruleSubject},
		{"all", pub("fm.aaa.up.>", "", ""), "", ruleSubject},
		{"empty token", pub("fm.aaa.up..x", "", ""), "", ruleSubject},
		{"nothing behind", pub("fm.aaa.up.", "", ""), "", ruleSubject},
		{"another's inbox", pub(ok, "_INBOX_bbb.x", ""), "", ruleReply},
		{"prefix of an inbox", pub(ok, "_INBOX_aaab.x", ""), "", ruleReply},
		{"bare inbox", pub(ok, "_INBOX_aaa", ""), "", ruleReply},
		{"wild reply", pub(ok, "_INBOX_aaa.>", ""), "", ruleReply},
		{"queue", "SUB fm.aaa.down.hint hub 1\r\n", "", ruleQueue},
		{"sub of up", "SUB fm.aaa.up.> 1\r\n", "", ruleSubject},
		{"sub of all", "SUB > 1\r\n", "", ruleSubject},
		{"sub id", "SUB _INBOX_aaa.> a,b\r\n", "", ruleFields},

		{"rollup", hpub(ok, "Nats-Rollup: all\r\n", ""), "", ruleHeader},
		{"any case", hpub(ok, "A: b\r\nnAtS-Msg-Id: 1\r\n", ""), "", ruleHeader},
		{"space before", hpub(ok, " Nats-Rollup: all\r\n", ""), "", ruleHeader},
		{"space behind", hpub(ok, "Nats-Rollup : all\r\n", ""), "", ruleHeader},
		{"hidden by newline", hpub(ok, "A: b\nNats-Rollup: all\r\n", ""), "", ruleHeader},
		{"hidden by return", hpub(ok, "A: b\rNats-Rollup: all\r\n", ""), "", ruleHeader},
		{"behind the end", hpub(ok, "\r\nNats-Rollup: all\r\n", ""), "", ruleHeader},
		{"no colon", hpub(ok, "Nats\r\n", ""), "", ruleHeader},
		{"other version", "HPUB " + ok + " 12 12\r\nNATS/2.0\r\n\r\n\r\n", "", ruleHeader},
		{"status", "HPUB " + ok + " 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "", ruleHeader},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{len(tt.in), 1} {
				got, rule := feedIn(loggedIn(), tt.in, func() int { return size })
				if rule != tt.rule || (rule == "" && got != tt.want) {
					t.Errorf("in pieces of %d: %q, rule %q; want %q, rule %q", size, got, rule, tt.want, tt.rule)
				}
			}
		})
	}
}

// feedIn feeds text in pieces and returns what passed and the rule that was broken.
func feedIn(f *filter, text string, size func() int) (passed, rule string) {
	var all []byte
	for len(text) > 0 {
		n := min(size(), len(text))
		out, bad := f.feed(nil, []byte(text[:n]))
		if bad != nil {
			return string(all), bad.reason
		}
		all, text = append(all, out...), text[n:]
	}
	return string(all), ""
}

func TestFilterConnect(t *testing.T) {
	t.Parallel()
	login := func(body []byte) ([]byte, error) {
		if string(body) != `{"a":1}` {
			return nil, fmt.Errorf("body %q", body)
		}
		return []byte("CONNECT rewritten\r\n"), nil
	}
	for _, tt := range []struct{ name, in, want, rule string }{
		{"connect", "CONNECT {\"a\":1}\r\nPING\r\n", "CONNECT rewritten\r\nPING\r\n", ""},
		{"any case", "connect\t{\"a\":1}\r\n", "CONNECT rewritten\r\n", ""},
		{"ping first", "PING\r\n", "", ruleConnect},
		{"publish first", pub("fm.aaa.up.x", "", "a"), "", ruleConnect},
		{"twice", "CONNECT {\"a\":1}\r\nCONNECT {\"a\":1}\r\n", "CONNECT rewritten\r\n", ruleConnect},
		{"refused by login", "CONNECT {}\r\n", "", ruleConnect},
		{"too long", "CONNECT {" + strings.Repeat(" ", maxConnect), "", ruleLength},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, rule := feedIn(newFilter("aaa", login), tt.in, func() int { return 3 })
			if rule != tt.rule || (rule == "" && got != tt.want) {
				t.Errorf("%q, rule %q; want %q, rule %q", got, rule, tt.want, tt.rule)
			}
		})
	}
}

// What passes does not depend on how the stream is cut.
func TestFilterPieces(t *testing.T) {
	t.Parallel()
	var stream strings.Builder
	for i := range 40 {
		stream.WriteString(pub("fm.aaa.up.svc.x", "_INBOX_aaa.r", strings.Repeat("PUB fm.bbb.down.hint 0\r\n\r\n", i)))
		stream.WriteString("PING\r\nSUB _INBOX_aaa.> 1\r\nUNSUB 1\r\n")
		stream.WriteString(hpub("fm.aaa.up.metrics.host", "A: "+strings.Repeat("b", i*10)+"\r\n", "body\r\n"))
	}
	in := stream.String()
	for range 2000 {
		got, rule := feedIn(loggedIn(), in, func() int { return 1 + rand.IntN(200) })
		if rule != "" || got != in {
			t.Fatalf("rule %q, passed %d of %d bytes", rule, len(got), len(in))
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	message := []byte(pub("fm.aaa.up.metrics.host", "", strings.Repeat("x", 1000)))
	f, out := loggedIn(), make([]byte, 0, 4096)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, bad := f.feed(out, message); bad != nil {
			b.Fatal(bad)
		}
	}
}
