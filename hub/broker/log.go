// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"fmt"

	"go.uber.org/zap"
)

// serverLog passes nats-server's log lines on. Its notices are for developers of
// the hub, not for its operators, hence debug.
type serverLog struct {
	log   *zap.Logger
	fatal chan string // the first fatal line; the server itself does not end the process
}

func newServerLog(log *zap.Logger) *serverLog {
	return &serverLog{log: log.Named("nats"), fatal: make(chan string, 1)}
}

func (l *serverLog) Noticef(format string, v ...any) {
	l.log.Debug("nats-server notice", text(format, v))
}

func (l *serverLog) Warnf(format string, v ...any) {
	l.log.Warn("nats-server warning", text(format, v))
}

func (l *serverLog) Errorf(format string, v ...any) {
	l.log.Error("nats-server error", text(format, v))
}

func (l *serverLog) Debugf(format string, v ...any) {
	l.log.Debug("nats-server debug", text(format, v))
}

func (l *serverLog) Tracef(format string, v ...any) {
	l.log.Debug("nats-server trace", text(format, v))
}

// Fatalf keeps the reason for Open.
func (l *serverLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
	l.log.Error("nats-server fatal", text(format, v))
}

func text(format string, v []any) zap.Field { return zap.String("text", fmt.Sprintf(format, v...)) }
