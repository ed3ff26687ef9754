// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package wire

import "strconv"

// Limits of a signed list.
const (
	// MaxItems is how many works one cluster may have.
	MaxItems = 100_000
	// MaxPageBytes is the largest payload of one page. With its encoding, the
	// signature and the chain it fits one message.
	MaxPageBytes = 700_000
	// MaxPages bounds what an agent collects before it takes a list over.
	MaxPages = 200
)

// PAE is the pre-authentication encoding of DSSE v1.0: what is signed, and what a
// signature is checked against.
func PAE(payloadType string, payload []byte) []byte {
	out := make([]byte, 0, len(payload)+len(payloadType)+40)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(payloadType)), 10)
	out = append(out, ' ')
	out = append(out, payloadType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, int64(len(payload)), 10)
	out = append(out, ' ')
	return append(out, payload...)
}

// Reports are several reports in one request of ServiceReports, each about
// another work. Version 2.
type Reports struct {
	Reports []Report `json:"reports"`
}

// MaxReports is how many reports one request may hold.
const MaxReports = 500

// Acks answers Reports: one Ack a report, in the same order. With Error set none
// of them was looked at.
type Acks struct {
	Acks  []Ack  `json:"acks,omitempty"`
	Error string `json:"error,omitempty"`
}
