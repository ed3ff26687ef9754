// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leak fails a package whose tests leave goroutines behind.
package leak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines that were told to end may take: on a busy
// machine a stopped server needs seconds. A leak never ends.
const patience = 30 * time.Second

// Main runs the tests of a package from its TestMain and ends the process.
func Main(m *testing.M, options ...goleak.Option) {
	code := m.Run()
	if code == 0 {
		code = check(options)
	}
	os.Exit(code)
}

func check(options []goleak.Option) int {
	deadline := time.Now().Add(patience)
	for {
		err := goleak.Find(options...)
		if err == nil {
			return 0
		}
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "goroutines left behind by the tests:", err)
			return 1
		}
	}
}
