// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"strconv"

	"github.com/drover-io/drover/shared/wire"
)

const (
	maxLine    = 4096     // bytes of a control line with its end
	maxConnect = 16 << 10 // of CONNECT
	maxHeader  = 4096     // of a header block
	maxToken   = 20       // of a subscription id or a number
)

// filter guards the bytes from an agent to the broker. It enforces what NATS
// permissions do not: they leave reply subjects, server-interpreted headers and
// most verbs alone.
//
// The broker never sees a control line of the agent's: each is parsed, and written
// anew from its fields, so that the two cannot disagree about where it ends or how
// long the payload is. A lax filter was bypassed by a carriage return in the middle
// of a line, at which the server cuts the size.
type filter struct {
	login func(connect []byte) ([]byte, error) // rewrites the one CONNECT

	up, inbox, down []byte // what the agent's subjects begin with

	state   state
	held    []byte // a partial line or header block
	want    int    // bytes of the header block, or of the payload, to come
	payload int    // bytes after the header block
}

type state byte

const (
	stateConnect state = iota
	stateLine
	stateHeader
	statePayload
	stateCR // the line end behind a payload
	stateLF
)

// violation is a broken rule; reason is one of a fixed set, for counting.
type violation struct{ reason string }

// Error names the rule.
func (v *violation) Error() string { return "protocol violation: " + v.reason }

// Rules that an agent can break.
const (
	ruleConnect = "connect"       // the first verb is CONNECT, the others are not
	ruleVerb    = "verb"          // only PUB, HPUB, SUB, UNSUB, PING, PONG
	ruleLength  = "line-length"   // a line is too long
	ruleBytes   = "control-bytes" // a line has other than printable characters
	ruleFields  = "arguments"     // number or form of a verb's arguments
	ruleSize    = "size"          // larger than the largest payload, or not what was announced
	ruleSubject = "subject"       // not the cluster's own
	ruleReply   = "reply"         // not the cluster's own inbox
	ruleQueue   = "queue"         // a queue subscription
	ruleHeader  = "header"        // malformed, too large, or one that the server obeys
)

func newFilter(cluster string, login func([]byte) ([]byte, error)) *filter {
	return &filter{
		login: login,
		up:    []byte(wire.UpPrefix(cluster)),
		inbox: []byte(wire.InboxPrefix(cluster) + "."),
		down:  []byte(wire.DownPrefix(cluster)),
	}
}

// feed appends to out what the broker may get of in, whose pieces may be cut
// anywhere. After a violation the stream must not be used any more, nor out.
func (f *filter) feed(out, in []byte) ([]byte, *violation) {
	for len(in) > 0 {
		switch f.state {
		case stateConnect, stateLine:
			line, rest, bad := f.line(in)
			if bad != nil {
				return nil, bad
			}
			in = rest
			if line == nil {
				return out, nil
			}
			if out, bad = f.command(out, line); bad != nil {
				return nil, bad
			}
			f.drop()
		case stateHeader:
			block, rest := f.block(in)
			in = rest
			if block == nil {
				return out, nil
			}
			if !headersAllowed(block) {
				return nil, &violation{ruleHeader}
			}
			out = append(out, block...)
			f.drop()
			f.want, f.state = f.payload, statePayload
			if f.want == 0 {
				f.state = stateCR
			}
		case statePayload:
			n := min(f.want, len(in))
			out = append(out, in[:n]...)
			in = in[n:]
			if f.want -= n; f.want == 0 {
				f.state = stateCR
			}
		case stateCR, stateLF:
			end := byte('\r')
			if f.state == stateLF {
				end = '\n'
			}
			if in[0] != end {
				return nil, &violation{ruleSize}
			}
			out = append(out, end)
			in = in[1:]
			if f.state++; end == '\n' {
				f.state = stateLine
			}
		}
	}
	return out, nil
}

// line returns the next line without its end, nil if it is not complete yet.
func (f *filter) line(in []byte) (line, rest []byte, bad *violation) {
	limit := maxLine
	if f.state == stateConnect {
		limit = maxConnect
	}
	i := bytes.IndexByte(in, '\n')
	piece := in
	if i >= 0 {
		piece, rest = in[:i+1], in[i+1:]
	}
	if len(f.held)+len(piece) > limit {
		return nil, nil, &violation{ruleLength}
	}
	if i < 0 {
		f.held = append(f.held, piece...)
		return nil, nil, nil
	}
	if line = piece; len(f.held) > 0 {
		f.held = append(f.held, piece...)
		line = f.held
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, nil, &violation{ruleBytes}
	}
	for _, c := range line {
		if (c < 0x20 && c != '\t') || c > 0x7e {
			return nil, nil, &violation{ruleBytes}
		}
	}
	return line, rest, nil
}

// block returns the whole header block, nil if it is not complete yet.
func (f *filter) block(in []byte) (block, rest []byte) {
	n := min(f.want-len(f.held), len(in))
	piece, rest := in[:n], in[n:]
	if len(f.held) == 0 && n == f.want {
		return piece, rest
	}
	f.held = append(f.held, piece...)
	if len(f.held) < f.want {
		return nil, rest
	}
	return f.held, rest
}

// drop forgets what was held back; an idle agent holds no buffer.
func (f *filter) drop() { f.held = nil }

// command parses one line and appends its rewritten form.
func (f *filter) command(out, line []byte) ([]byte, *violation) {
	verb, rest := line, []byte(nil)
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		verb, rest = line[:i], line[i+1:]
	}
	isConnect := bytes.EqualFold(verb, []byte("CONNECT"))
	if isConnect != (f.state == stateConnect) {
		return nil, &violation{ruleConnect}
	}
	if isConnect {
		text, err := f.login(rest)
		if err != nil {
			return nil, &violation{ruleConnect}
		}
		f.state = stateLine
		return append(out, text...), nil
	}
	// One more than any verb takes, to notice too many.
	var array [5][]byte
	args, ok := fields(array[:0], rest)
	if !ok {
		return nil, &violation{ruleFields}
	}
	switch {
	case bytes.EqualFold(verb, []byte("PUB")):
		return f.publish(out, args, false)
	case bytes.EqualFold(verb, []byte("HPUB")):
		return f.publish(out, args, true)
	case bytes.EqualFold(verb, []byte("SUB")):
		return f.subscribe(out, args)
	case bytes.EqualFold(verb, []byte("UNSUB")):
		return unsubscribe(out, args)
	case bytes.EqualFold(verb, []byte("PING")) && len(args) == 0:
		return append(out, "PING\r\n"...), nil
	case bytes.EqualFold(verb, []byte("PONG")) && len(args) == 0:
		return append(out, "PONG\r\n"...), nil
	}
	return nil, &violation{ruleVerb}
}

// publish is PUB subject [reply] size and HPUB subject [reply] header-size size.
func (f *filter) publish(out []byte, args [][]byte, headers bool) ([]byte, *violation) {
	numbers := 1
	if headers {
		numbers = 2
	}
	var reply []byte
	switch len(args) {
	case numbers + 1:
	case numbers + 2:
		reply = args[1]
	default:
		return nil, &violation{ruleFields}
	}
	subject, sizes := args[0], args[len(args)-numbers:]
	if !literal(subject) || !bytes.HasPrefix(subject, f.up) {
		return nil, &violation{ruleSubject}
	}
	if reply != nil && (!literal(reply) || !bytes.HasPrefix(reply, f.inbox)) {
		return nil, &violation{ruleReply}
	}
	size, ok := number(sizes[numbers-1])
	if !ok || size > wire.MaxPayload {
		return nil, &violation{ruleSize}
	}
	head := 0
	if headers {
		head, ok = number(sizes[0])
		if !ok || head > size {
			return nil, &violation{ruleSize}
		}
		if head == 0 || head > maxHeader {
			return nil, &violation{ruleHeader}
		}
		out = append(out, 'H')
	}
	out = append(append(out, "PUB "...), subject...)
	if reply != nil {
		out = append(append(out, ' '), reply...)
	}
	if headers {
		out = strconv.AppendInt(append(out, ' '), int64(head), 10)
	}
	out = append(strconv.AppendInt(append(out, ' '), int64(size), 10), "\r\n"...)

	switch f.want, f.payload = size, size-head; {
	case headers:
		f.want, f.state = head, stateHeader
	case size > 0:
		f.state = statePayload
	default:
		f.state = stateCR
	}
	return out, nil
}

// subscribe is SUB subject sid.
func (f *filter) subscribe(out []byte, args [][]byte) ([]byte, *violation) {
	switch {
	case len(args) == 3:
		return nil, &violation{ruleQueue}
	case len(args) != 2 || !token(args[1]):
		return nil, &violation{ruleFields}
	case !bytes.HasPrefix(args[0], f.inbox) && !bytes.HasPrefix(args[0], f.down), !wellFormed(args[0]):
		return nil, &violation{ruleSubject}
	}
	out = append(append(out, "SUB "...), args[0]...)
	out = append(append(out, ' '), args[1]...)
	return append(out, "\r\n"...), nil
}

// unsubscribe is UNSUB sid [max].
func unsubscribe(out []byte, args [][]byte) ([]byte, *violation) {
	if len(args) < 1 || len(args) > 2 || !token(args[0]) {
		return nil, &violation{ruleFields}
	}
	out = append(append(out, "UNSUB "...), args[0]...)
	if len(args) == 2 {
		limit, ok := number(args[1])
		if !ok {
			return nil, &violation{ruleFields}
		}
		out = strconv.AppendInt(append(out, ' '), int64(limit), 10)
	}
	return append(out, "\r\n"...), nil
}
