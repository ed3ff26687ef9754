// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/drover-io/drover/shared/daemon"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
		code int
		text string
	}{
		{"success", nil, 0, ""},
		{"plain", errors.New("no"), 1, "x: error: no\n"},
		{"hint", daemon.Hint(errors.New("no"), "do %s", "this"), 1, "x: error: no\nhint: do this\n"},
		{"hint of nothing", daemon.Hint(nil, "do"), 0, ""},
		{"usage", daemon.Usage("flag %q", "a"), 2, "x: error: flag \"a\"\n"},
		{"waiting", &daemon.Error{Err: errors.New("w"), Code: daemon.ExitWaiting}, 3, "x: error: w\n"},
		{"wrapped", fmt.Errorf("open: %w", daemon.Hint(errors.New("no"), "h")), 1, "x: error: open: no\nhint: h\n"},
		{"inner code", daemon.Hint(daemon.Usage("u"), "h"), 2, "x: error: u\nhint: h\n"},
		{"outer code wins", &daemon.Error{Err: daemon.Usage("u"), Code: daemon.ExitConflict}, 4, "x: error: u\n"},
		{"two hints", daemon.Hint(daemon.Hint(errors.New("no"), "inner"), "outer"), 1, "x: error: no\nhint: outer\nhint: inner\n"},
		{"interrupted", fmt.Errorf("wait: %w", context.Canceled), 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if code := daemon.Report(&out, "x", tt.err); code != tt.code || out.String() != tt.text {
				t.Errorf("%d %q, want %d %q", code, out.String(), tt.code, tt.text)
			}
		})
	}
}

func TestExecute(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"good"}, 0, ""},
		{[]string{"bad"}, 1, "tool: error: broken\n"},
		{[]string{"bad", "extra"}, 2, "hint: see `tool bad --help`\n"},
		{[]string{"none"}, 2, "unknown command"},
		{[]string{"good", "--none"}, 2, "hint: `tool good --help` lists the options\n"},
		{[]string{"good", "--wait", "long"}, 2, "invalid argument \"long\""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			root := &cobra.Command{Use: "tool"}
			good := &cobra.Command{Use: "good", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return nil }}
			good.Flags().Duration("wait", 0, "")
			root.AddCommand(good, &cobra.Command{Use: "bad", Args: cobra.ExactArgs(0), RunE: func(*cobra.Command, []string) error { return errors.New("broken") }})
			var out bytes.Buffer
			if code := daemon.Execute(t.Context(), root, tt.args, &out); code != tt.code || !strings.Contains(out.String(), tt.text) {
				t.Errorf("%d %q, want %d %q", code, out.String(), tt.code, tt.text)
			}
		})
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	boom := errors.New("boom")
	for _, tt := range []struct {
		name   string
		parts  map[string]func(context.Context) error
		cancel bool
		want   string // empty: nil
		is     error
	}{
		{name: "cancelled", parts: map[string]func(context.Context) error{"a": wait, "b": wait}, cancel: true},
		{name: "parts that end without an error on cancel", parts: map[string]func(context.Context) error{
			"a": func(ctx context.Context) error { <-ctx.Done(); return nil },
		}, cancel: true},
		{name: "first error wins", parts: map[string]func(context.Context) error{
			"a": wait, "b": func(context.Context) error { return boom },
			"c": func(ctx context.Context) error { <-ctx.Done(); return errors.New("later") },
		}, want: "b: boom", is: boom},
		{name: "a part that simply returns", parts: map[string]func(context.Context) error{
			"a": wait, "b": func(context.Context) error { return nil },
		}, want: "b: ended by itself"},
		{name: "a part that gives up with Canceled", parts: map[string]func(context.Context) error{
			"a": wait, "b": func(context.Context) error { return fmt.Errorf("call: %w", context.Canceled) },
		}, want: "b: ended by itself: call: context canceled"},
		{name: "panic", parts: map[string]func(context.Context) error{
			"a": wait, "b": func(context.Context) error { panic("oh") },
		}, want: "b: panic: oh\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			g := daemon.NewGroup(ctx)
			for name, run := range tt.parts {
				g.Go(name, run)
			}
			if tt.cancel {
				cancel()
			}
			err := g.Wait()
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("%v, want nil", err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			case tt.is != nil && !errors.Is(err, tt.is):
				t.Errorf("%v does not wrap %v", err, tt.is)
			}
			if g.Context().Err() == nil {
				t.Error("the group's context lives on")
			}
		})
	}
}

func TestOrderly(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := daemon.Orderly(ended, context.Canceled); err != nil {
		t.Error(err)
	}
	if err := daemon.Orderly(t.Context(), context.Canceled); err == nil {
		t.Error("a cancellation from nowhere is not orderly")
	}
	if err := daemon.Orderly(ended, errors.New("disk")); err == nil {
		t.Error("a failure at the end was lost")
	}
}

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		if !daemon.Sleep(t.Context(), time.Hour) || time.Since(begin) != time.Hour {
			t.Errorf("woke after %s", time.Since(begin))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin = time.Now()
		if daemon.Sleep(ctx, time.Hour) || time.Since(begin) != time.Minute {
			t.Errorf("cancelled, woke after %s", time.Since(begin))
		}
	})
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		level, format string
		ok            bool
	}{{"info", "text", true}, {"debug", "json", true}, {"loud", "text", false}, {"info", "xml", false}} {
		log, err := daemon.NewLogger(tt.level, tt.format)
		if (err == nil) != tt.ok || (log != nil) != tt.ok {
			t.Errorf("%s %s: %v", tt.level, tt.format, err)
		}
	}
}
