// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/drover-io/drover/hub/gateway"
)

// ownCertificate serves the operator's certificate from its files, and takes a
// new one over when they change. Without files it returns nil.
func ownCertificate(certFile, keyFile string, log *zap.Logger) (gateway.GetCertificate, error) {
	if certFile == "" {
		return nil, nil
	}
	f := &certificateFiles{cert: certFile, key: keyFile, log: log}
	if err := f.load(); err != nil {
		return nil, err
	}
	return f.get, nil
}

type certificateFiles struct {
	cert, key string
	log       *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	tried   [2]time.Time // modification of both files when they were read last
}

func (f *certificateFiles) modified() (m [2]time.Time, err error) {
	for i, file := range []string{f.cert, f.key} {
		st, err := os.Stat(file)
		if err != nil {
			return m, fmt.Errorf("tls-cert, tls-key: %w", err)
		}
		m[i] = st.ModTime()
	}
	return m, nil
}

func (f *certificateFiles) load() error {
	modified, err := f.modified()
	if err != nil {
		return err
	}
	f.tried = modified
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("tls-cert %s, tls-key %s: %w", f.cert, f.key, err)
	}
	f.current = &pair
	return nil
}

func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m, err := f.modified(); err == nil && m != f.tried {
		if err := f.load(); err != nil {
			// Half of a pair may be written; the former certificate still serves, and
			// the next change of either file is the next attempt.
			f.log.Warn("taking over the new certificate failed, the former one stays", zap.Error(err))
		}
	}
	return f.current, nil
}
