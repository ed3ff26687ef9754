// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package daemon is what the three commands have in common around their real
// work: how they fail, log, read options, run parts together and tell systemd.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Exit codes of every command.
const (
	ExitOK       = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitWaiting  = 3 // not approved in time, or waiting for a person
	ExitConflict = 4
)

// Error adds to an error what the person may do about it and how the process exits.
type Error struct {
	Err  error
	Hint string // one sentence, optional
	Code int    // zero means ExitFailed
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint attaches a hint to err; nil stays nil.
func Hint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Hint: fmt.Sprintf(format, args...)}
}

// Usage is the error of a command line that cannot be understood.
func Usage(format string, args ...any) error {
	return &Error{Err: fmt.Errorf(format, args...), Code: ExitUsage}
}

// Report prints err as "NAME: error: ..." and "hint: ..." lines and returns the
// exit code. An interrupted command prints nothing: the person knows.
func Report(w io.Writer, name string, err error) int {
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, context.Canceled):
		return ExitFailed
	}
	fmt.Fprintf(w, "%s: error: %v\n", name, err)
	code := ExitOK
	for e := err; e != nil; {
		var de *Error
		if !errors.As(e, &de) {
			break
		}
		if de.Hint != "" {
			fmt.Fprintf(w, "hint: %s\n", de.Hint)
		}
		if code == ExitOK {
			code = de.Code // the outermost that has one knows best
		}
		e = de.Err
	}
	if code == ExitOK {
		return ExitFailed
	}
	return code
}
