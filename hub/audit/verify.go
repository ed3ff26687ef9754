// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"fmt"
)

// Report is what Verify found.
type Report struct {
	// Records that were read, good and bad.
	Records uint64 `json:"records"`
	// First and Last are sequences; First is above 1 when older records were
	// dropped by their age.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Head is the hash of the last record. Kept somewhere else, it proves later
	// that nothing up to here was rewritten.
	Head string `json:"head"`
	// Breaks is how many places are wrong; FirstBad is the first, nil when none is.
	Breaks   int  `json:"breaks"`
	FirstBad *Bad `json:"firstBad,omitempty"`
}

// Bad is a place at which the chain is broken.
type Bad struct {
	// Sequence of the record that should be here.
	Sequence uint64 `json:"sequence"`
	// Message is the stream's sequence of the message that holds it, 0 for the end.
	Message uint64 `json:"message"`
	Reason  string `json:"reason"`
}

// checker follows a chain.
type checker struct {
	report  Report
	at      head
	started bool
	partial bool // the beginning may be missing
}

func (c *checker) bad(message, sequence uint64, format string, args ...any) {
	c.report.Breaks++
	if c.report.FirstBad == nil {
		c.report.FirstBad = &Bad{sequence, message, fmt.Sprintf(format, args...)}
	}
}

func (c *checker) message(sequence uint64, data []byte) {
	all := lines(data)
	if len(all) == 0 {
		c.bad(sequence, c.at.Sequence+1, "a message without records")
	}
	for _, text := range all {
		c.record(sequence, text)
	}
}

// record checks one record, and goes on from it whatever it is, so that one
// change counts as one break.
func (c *checker) record(message uint64, text []byte) {
	c.report.Records++
	l, err := parseLine(text)
	want := c.at.Sequence + 1
	switch first := !c.started; {
	case err != nil:
		c.bad(message, want, "%v", err)
		if l.Hash == "" {
			// Its place in the chain is all that can be said of it.
			l.Sequence = want
		}
	case first && c.partial:
	case l.Sequence != want:
		c.bad(message, want, "record %d follows record %d", l.Sequence, c.at.Sequence)
	case l.Previous != c.at.Hash:
		c.bad(message, want, "the record does not follow the one before: that one is another than it was")
	}
	if !c.started {
		c.report.First = l.Sequence
	}
	c.started = true
	c.at = head{l.Sequence, l.Hash}
}

// end compares with where the chain is known to end.
func (c *checker) end(known head) Report {
	c.report.Last, c.report.Head = c.at.Sequence, c.at.Hash
	if known != c.at && (c.started || !c.partial) {
		c.bad(0, c.at.Sequence+1, "the log ends with record %d, but record %d was stored", c.at.Sequence, known.Sequence)
	}
	return c.report
}

// Verify reads the whole log and checks every record: its hash, that it follows
// the one before, and that the last is the one that this process, or the head
// file, remembers. The error is about reading; what is wrong with the log is in
// the report. Records that are stored meanwhile are not looked at.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	l.mu.Lock()
	known, last := l.head, l.last
	l.mu.Unlock()
	info, err := l.info(ctx)
	if err != nil {
		return Report{}, err
	}
	c := &checker{partial: l.opts.MaxAge > 0}
	if last > 0 && info.State.Msgs > 0 {
		err := l.read(ctx, max(info.State.FirstSeq, 1), last, func(m message) { c.message(m.sequence, m.data) })
		if err != nil {
			return Report{}, err
		}
	}
	return c.end(known), nil
}
