// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import "bytes"

// fields splits on spaces and tabs, up to the capacity of to.
func fields(to [][]byte, line []byte) ([][]byte, bool) {
	for i := 0; i < len(line); {
		if line[i] == ' ' || line[i] == '\t' {
			i++
			continue
		}
		start := i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		if len(to) == cap(to) {
			return nil, false
		}
		to = append(to, line[start:i])
	}
	return to, true
}

// number parses decimal digits; nine of them never overflow.
func number(text []byte) (int, bool) {
	if len(text) == 0 || len(text) > 9 {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// token reports whether text is fit as a subscription id.
func token(text []byte) bool {
	if len(text) == 0 || len(text) > maxToken {
		return false
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// wellFormed reports whether no token of subject is empty.
func wellFormed(subject []byte) bool {
	return len(subject) > 0 && subject[0] != '.' && subject[len(subject)-1] != '.' && !bytes.Contains(subject, []byte(".."))
}

// literal reports whether subject is well formed and without wildcards. A server
// that is not pedantic takes wildcards in what is published.
func literal(subject []byte) bool { return wellFormed(subject) && !bytes.ContainsAny(subject, "*>") }

// headersAllowed checks a whole header block. The server obeys headers that begin
// with "Nats-": one of them empties a stream, others wait, schedule or deduplicate
// across clusters.
func headersAllowed(block []byte) bool {
	rest, ok := bytes.CutPrefix(block, []byte("NATS/1.0\r\n"))
	if !ok {
		return false
	}
	for {
		line, more, found := bytes.Cut(rest, []byte("\r\n"))
		if !found {
			return false
		}
		if len(line) == 0 {
			return len(more) == 0
		}
		key, _, found := bytes.Cut(line, []byte(":"))
		if !found || !headerKey(key) || bytes.ContainsAny(line, "\r\n\x00") {
			return false
		}
		if len(key) >= len(reserved) && bytes.EqualFold(key[:len(reserved)], []byte(reserved)) {
			return false
		}
		rest = more
	}
}

// reserved begins the names of headers that the server obeys.
const reserved = "nats-"

// headerKey reports whether key has only characters that no reader trims or folds.
func headerKey(key []byte) bool {
	for _, c := range key {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return len(key) > 0
}
