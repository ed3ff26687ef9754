// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Main runs a command tree and returns the exit code. SIGINT and SIGTERM end
// its context; a second one ends the process.
func Main(root *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return Execute(ctx, root, os.Args[1:], os.Stderr)
}

// Execute runs a command tree with args. An error is printed once, in the
// common form; a command line that cannot be understood exits with ExitUsage.
func Execute(ctx context.Context, root *cobra.Command, args []string, stderr io.Writer) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &Error{Err: err, Code: ExitUsage, Hint: fmt.Sprintf("`%s --help` lists the options", c.CommandPath())}
	})
	cmd, err := root.ExecuteContextC(ctx)
	var de *Error
	if err != nil && !errors.As(err, &de) && isUsage(err) {
		err = &Error{Err: err, Code: ExitUsage, Hint: fmt.Sprintf("see `%s --help`", cmd.CommandPath())}
	}
	return Report(stderr, root.Name(), err)
}

// isUsage recognises the errors that cobra makes of a command line itself; it
// has no type for them.
func isUsage(err error) bool {
	for _, start := range []string{"unknown command", "unknown flag", "unknown shorthand", "accepts ", "requires at least", "required flag"} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// Orderly turns the end of a daemon by its own context into success.
func Orderly(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
