// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package live

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/drover-io/drover/hub/store"
)

// body is the whole answer for a table while no row changes, plain and compressed.
// Its revision may be an older one: nothing has happened since.
type body struct {
	revision      uint64
	plain, packed []byte
}

// serveTable answers with a table as it is now.
func (l *Live) serveTable(w http.ResponseWriter, r *http.Request) {
	data, packed, err := l.tableAnswer(r)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Encoding")
	if packed {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data) // a client that went away needs no answer
}

func (l *Live) tableAnswer(r *http.Request) (data []byte, packed bool, err error) {
	who, err := l.who(r)
	if err != nil {
		return nil, false, err
	}
	d, namespace := definitions()[r.PathValue("name")], r.URL.Query().Get("namespace")
	if d == nil {
		return nil, false, apierrors.NewNotFound(groupResource("tables"), clip(r.PathValue("name")))
	}
	if namespace != "" && d.clusterScoped {
		return nil, false, apierrors.NewBadRequest(fmt.Sprintf("namespace: rows of %q are in no namespace", d.name))
	}
	s, err := l.sight(r.Context(), who, "list", d, namespace)
	if err != nil {
		return nil, false, err
	}
	if s.forbidden != "" {
		return nil, false, forbidden(s.forbidden)
	}
	t, err := l.table(r.Context(), d)
	if err != nil {
		return nil, false, err
	}
	gz := takesGzip(r)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.sync(); err != nil {
		return nil, false, err
	}
	if s.all && s.whole() && namespace == "" {
		return t.whole(l.cfg.Sight.Since(who), gz)
	}
	rows, err := t.answer(func(r *row) []byte {
		if namespace != "" && r.namespace != namespace || !s.shows(r.namespace, r.name, r.labels) {
			return nil
		}
		return s.render(d, r)
	})
	if err != nil || !gz {
		return rows, false, err
	}
	data, err = pack(rows)
	return data, true, err
}

// answer is the table with the rows as render has them; t.mu is held.
func (t *table) answer(render func(*row) []byte) ([]byte, error) {
	columns, err := json.Marshal(t.def.columns())
	if err != nil {
		return nil, err
	}
	out := append(fmt.Appendf(nil, `{"rev":%d,"columns":`, t.revision), columns...)
	out = append(out, `,"rows":[`...)
	first := true
	for _, key := range t.keys() {
		data := render(t.rows[key])
		if data == nil {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = append(out, data...)
	}
	return append(out, "]}\n"...), nil
}

// whole answers who may see everything, and did so since a revision. The answer is
// made once for all who ask before a row changes; t.mu is held.
func (t *table) whole(since uint64, gz bool) (data []byte, packed bool, err error) {
	if t.body.plain == nil || t.body.revision < since {
		t.body = body{revision: t.revision}
		if t.body.plain, err = t.answer(func(r *row) []byte { return r.full }); err != nil {
			return nil, false, err
		}
	}
	if !gz {
		return t.body.plain, false, nil
	}
	if t.body.packed == nil {
		if t.body.packed, err = pack(t.body.plain); err != nil {
			return nil, false, err
		}
	}
	return t.body.packed, true, nil
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func pack(data []byte) ([]byte, error) {
	var out buffer
	w, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	return out, w.Close()
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if name == "gzip" && strings.ReplaceAll(q, " ", "") != "q=0" {
			return true
		}
	}
	return false
}

func forbidden(text string) error {
	err := apierrors.NewForbidden(groupResource(""), "", errors.New(text))
	err.ErrStatus.Message = text
	return err
}

// refuse answers with a Status.
func (l *Live) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
	case errors.Is(err, store.ErrExpired), errors.Is(err, store.ErrFuture), errors.Is(err, store.ErrStopped), errors.Is(err, errReset):
		status = apierrors.NewServiceUnavailable("the hub is starting or stopping, try again")
	default:
		if r.Context().Err() == nil {
			l.log.Error("request failed", zap.String("path", r.URL.Path), zap.Error(err))
		}
		status = apierrors.NewInternalError(errors.New("internal error; the hub's log has the details"))
	}
	s := status.Status()
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(int(s.Code))
	_ = json.NewEncoder(w).Encode(s) // a client that went away needs no answer
}
