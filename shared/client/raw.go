// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"net/http"
	"strings"
)

// Put sends a body to a path of the hub that is no kind of its API, and reads JSON.
func (c *Client) Put(ctx context.Context, path, contentType string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, strings.TrimSuffix(c.config.Host, "/")+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", contentType)
	req.Header.Set(HeaderRequest, "1")
	return c.do(req, into)
}
