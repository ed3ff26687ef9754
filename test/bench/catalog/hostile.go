// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/wire"
)

// send asks the hub; into may be nil.
func (b *bench) send(ctx context.Context, method, path string, body, into any) error {
	var reader io.Reader
	kind := "application/json"
	switch body := body.(type) {
	case nil:
	case []byte:
		reader, kind = bytes.NewReader(body), archive.MediaType
	default:
		reader = bytes.NewReader(asJSON(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, b.hub.URL+path, reader)
	if err != nil {
		return err
	}
	if reader != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := b.web.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode > 299 {
		var s struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(data, &s) // the code alone will do
		return &statusError{resp.StatusCode, s.Message}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(data, into)
}

// packed is a compressed archive with files of the given size, all blanks, and others.
func packed(blank int64, files map[string]string) []byte {
	var out bytes.Buffer
	gz := gzip.NewWriter(&out)
	w := tar.NewWriter(gz)
	add := func(name string, size int64, content io.Reader) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
			panic(err) // of constants, into memory
		}
		if _, err := io.Copy(w, content); err != nil {
			panic(err)
		}
	}
	for name, text := range files {
		add(name, int64(len(text)), strings.NewReader(text))
	}
	if blank > 0 {
		add("blank.yaml", blank, io.LimitReader(blanks{}, blank))
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// blanks is a text without end.
type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// hostile sends content that would like to cost much, and prints what it cost.
func (b *bench) hostile(ctx context.Context) error {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ","))
	}
	const head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	for i, q := range []struct {
		what string
		data []byte
	}{
		{"4 GiB of blanks in one file", packed(4<<30, nil)},
		{"YAML that multiplies itself", packed(0, map[string]string{"a.yaml": head + laughs})},
		{"lists in lists, 100,000 deep", packed(0, map[string]string{"a.yaml": head + "x: " + strings.Repeat("[", 100_000)})},
		{"a template without end", packed(0, map[string]string{"a.yaml.tmpl": head + "x: |\n{{ range $i := until 1000000000 }}{{ range until 1000000 }}  x\n{{ end }}{{ end }}"})},
		{"a template that calls itself", packed(0, map[string]string{"a.yaml.tmpl": `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`})},
		{"a template that writes without end", packed(0, map[string]string{"a.yaml.tmpl": head + `x: {{ repeat 1000000000 "x" }}`})},
		{"50,000 files", packed(0, many(50_000))},
	} {
		_, before := b.resident()
		began := time.Now()
		err := b.push(ctx, fmt.Sprintf("hostile-%d", i), q.data)
		took := time.Since(began)
		var refused *statusError
		if !errors.As(err, &refused) {
			return fmt.Errorf("%s: not refused: %w", q.what, err)
		}
		if refused.code >= 500 {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		_, after := b.resident()
		figure(fmt.Sprintf("%s (%d bytes)", q.what, len(q.data)), "%d after %v, highest RSS +%d MiB", refused.code, took.Round(time.Millisecond), (after-before)>>20)
	}
	b.memory("RSS at the end")
	return nil
}

func many(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out[fmt.Sprintf("f%d.yaml", i)] = ""
	}
	return out
}

// push publishes content.
func (b *bench) push(ctx context.Context, addOn string, data []byte) error {
	var info struct {
		Digest string `json:"digest"`
	}
	if err := b.send(ctx, http.MethodPut, wire.PathContent, data, &info); err != nil {
		return err
	}
	return b.send(ctx, http.MethodPost, versionsPath, map[string]any{
		"apiVersion": fleet.Group + "/" + fleet.Version, "kind": fleet.KindAddOnVersion,
		"metadata": map[string]any{"name": addOn + "-1.0.0"},
		"spec":     map[string]any{"addOn": addOn, "version": "1.0.0", "image": info.Digest},
	}, nil)
}
