// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// tracker remembers whether an answer has begun.
type tracker struct {
	http.ResponseWriter
	started bool
	code    int // of the answer; 200 unless another was written
}

func (t *tracker) WriteHeader(code int) {
	t.started, t.code = true, code
	t.ResponseWriter.WriteHeader(code)
}

func (t *tracker) Write(p []byte) (int, error) {
	t.started = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// gzipFrom is the size of an answer in bytes from which it is worth compressing.
const gzipFrom = 128 << 10

// answer writes one body of unknown size: small ones with a length, large ones
// compressed when the client can read that.
type answer struct {
	c       *call
	code    int
	buf     []byte
	gz      *gzip.Writer
	started bool
}

func (c *call) answer(code int) *answer {
	c.w.Header().Set("Content-Type", c.accept.contentType())
	c.writeWarnings()
	return &answer{c: c, code: code}
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	if a.c.accept.yaml || !a.started && len(a.buf)+len(p) < gzipFrom {
		a.buf = append(a.buf, p...)
		return len(p), nil
	}
	if !a.started {
		if err := a.start(); err != nil {
			return 0, err
		}
	}
	return a.send(p)
}

func (a *answer) start() error {
	if err := a.c.record(succeeded(a.code)); err != nil {
		return err
	}
	a.started = true
	if acceptsGzip(a.c.r) {
		a.c.w.Header().Set("Content-Encoding", "gzip")
		a.gz = a.c.gzips.Get().(*gzip.Writer)
		a.gz.Reset(a.c.w)
	}
	a.c.w.WriteHeader(a.code)
	_, err := a.send(a.buf)
	a.buf = nil
	return err
}

func (a *answer) send(p []byte) (int, error) {
	if a.gz != nil {
		return a.gz.Write(p)
	}
	return a.c.w.Write(p)
}

// close completes the answer. It must be called once, unless the request failed.
func (a *answer) close() error {
	if a.gz != nil {
		err := a.gz.Close()
		a.gz.Reset(nil)
		a.c.gzips.Put(a.gz)
		a.gz = nil
		return err
	}
	if a.started {
		return nil
	}
	if err := a.c.record(succeeded(a.code)); err != nil {
		return err
	}
	if a.c.accept.yaml {
		a.buf = toYAML(a.buf)
	}
	a.c.w.Header().Set("Content-Length", strconv.Itoa(len(a.buf)))
	a.c.w.WriteHeader(a.code)
	_, err := a.c.w.Write(a.buf)
	return err
}

func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(name, "gzip") && strings.ReplaceAll(params, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

// writeJSON answers with v.
func (c *call) writeJSON(code int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return c.writeData(code, append(data, '\n'))
}

func (c *call) writeData(code int, data []byte) error {
	a := c.answer(code)
	if _, err := a.Write(data); err != nil {
		return err
	}
	return a.close()
}

func (c *call) writeWarnings() {
	if c.res != nil && c.res.Deprecation != "" {
		c.warn(c.res.Deprecation)
	}
	for _, text := range c.warnings {
		// quoted-string of RFC 7234, one line
		text = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, text)
		text = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)
		c.w.Header().Add("Warning", `299 - "`+text+`"`)
	}
	c.warnings = nil
}

// toYAML converts JSON that was made here.
func toYAML(data []byte) []byte {
	out, err := yaml.JSONToYAML(data)
	if err != nil {
		return data
	}
	return out
}
