// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The stream of audit records. Agents have no permission for its subject.
const (
	AuditStream  = "AUDIT"
	AuditSubject = "drover.audit"
)

// AuditConfig is the configuration of the stream. Zero values mean without limit.
func AuditConfig(maxAge time.Duration, maxBytes int64) jetstream.StreamConfig {
	duplicates := time.Second // no message has an id
	if maxAge > 0 {
		duplicates = min(duplicates, maxAge)
	}
	if maxBytes <= 0 {
		maxBytes = -1
	}
	return jetstream.StreamConfig{
		Name:        AuditStream,
		Description: "audit log of the hub",
		Subjects:    []string{AuditSubject},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Replicas:    1,
		MaxMsgs:     -1,
		MaxBytes:    maxBytes,
		MaxMsgSize:  -1,
		MaxAge:      maxAge,
		Duplicates:  duplicates,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: false,
	}
}
