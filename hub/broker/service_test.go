// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/broker"
	"github.com/drover-io/drover/shared/wire"
)

// TestServe: answers go to the asker's own inbox alone, one cluster cannot keep
// the others waiting, and an answer that does not fit says so.
func TestServe(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	nc, err := b.Connect("test")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- broker.Serve(ctx, nc, "test", zap.NewNop(), func(_ context.Context, cluster string, request []byte) *nats.Msg {
			switch string(request) {
			case "wait":
				<-release
			case "large":
				return &nats.Msg{Data: bytes.Repeat([]byte("x"), wire.MaxPayload+1)}
			}
			return broker.JSON(cluster)
		})
	}()
	ask := func(cluster, body string) (*nats.Msg, error) {
		inbox := wire.InboxPrefix(cluster) + "." + nats.NewInbox()[len("_INBOX."):]
		sub, err := nc.SubscribeSync(inbox)
		if err != nil {
			return nil, err
		}
		defer sub.Unsubscribe() //nolint:errcheck // the connection ends with the test
		if err := nc.PublishRequest(wire.ServiceSubject(cluster, "test"), inbox, []byte(body)); err != nil {
			return nil, err
		}
		return sub.NextMsg(10 * time.Second)
	}
	var answer *nats.Msg
	for answer == nil { // until it serves
		if answer, err = ask("aaa", "x"); err != nil && !errors.Is(err, nats.ErrNoResponders) {
			t.Fatal(err)
		}
	}
	if string(answer.Data) != `"aaa"` {
		t.Errorf("answer %q", answer.Data)
	}

	// A hundred slow requests of one cluster leave the other its place.
	for range 100 {
		if err := nc.PublishRequest(wire.ServiceSubject("aaa", "test"), wire.InboxPrefix("aaa")+".flood", []byte("wait")); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err = ask("bbb", "x"); err != nil || string(answer.Data) != `"bbb"` {
		t.Errorf("the other cluster: %v, %v", answer, err)
	}
	close(release)

	if answer, err = ask("bbb", "large"); err != nil || answer.Header.Get(wire.HeaderError) == "" {
		t.Errorf("an answer that does not fit: %v, %v", answer, err)
	}

	// A reply subject of somebody else is not served.
	foreign, err := nc.SubscribeSync(wire.HintSubject("bbb"))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(wire.ServiceSubject("aaa", "test"), wire.HintSubject("bbb"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := ask("aaa", "x"); err != nil {
		t.Error(err)
	}
	if n, _, _ := foreign.Pending(); n > 0 {
		t.Error("an answer went to a foreign subject")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve ended with %v", err)
	}
}
