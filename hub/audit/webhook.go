// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drover-io/drover/shared/daemon"
)

const (
	webhookTimeout = 30 * time.Second
	// webhookBatch is how many events one request carries, as of a kube-apiserver.
	webhookBatch = 400
)

// Webhook sends events as an EventList of audit.k8s.io/v1 to a server, as a
// kube-apiserver's audit webhook does. Any answer but 2xx counts as not taken.
type Webhook struct {
	url    string
	client *http.Client
}

// NewWebhook reads where and how from a file in kubeconfig format, the one that
// --audit-webhook-config-file of a kube-apiserver takes.
func NewWebhook(kubeconfig string) (*Webhook, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err == nil {
		cfg.Timeout = webhookTimeout
		var client *http.Client
		if client, err = rest.HTTPClientFor(cfg); err == nil {
			return &Webhook{url: cfg.Host + cfg.APIPath, client: client}, nil
		}
	}
	return nil, daemon.Hint(fmt.Errorf("audit-webhook-config-file: %w", err),
		"the file is a kubeconfig: clusters[].cluster.server is the URL, users[].user the credential")
}

// Write implements Sink.
func (w *Webhook) Write(ctx context.Context, events []auditv1.Event) error {
	for len(events) > 0 {
		n := min(len(events), webhookBatch)
		if err := w.send(ctx, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

func (w *Webhook) send(ctx context.Context, events []auditv1.Event) error {
	body, err := json.Marshal(&auditv1.EventList{
		TypeMeta: metav1.TypeMeta{APIVersion: auditv1.SchemeGroupVersion.String(), Kind: "EventList"}, Items: events,
	})
	if err != nil {
		return fmt.Errorf("encode audit events: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("send audit events: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("send audit events: %w", err)
	}
	defer resp.Body.Close()
	// The answer's body is nobody's; read, it lets the connection live on.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)); err != nil {
		return fmt.Errorf("send audit events: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("send audit events: the server answered %s", resp.Status)
	}
	return nil
}
