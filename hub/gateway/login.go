// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/drover-io/drover/shared/wire"
)

const (
	maxInfoLine = 32 << 10
	// maxVersion bounds what an agent says of its client library: the rewritten
	// CONNECT with the JWT must fit the server's control line of 4096 bytes.
	maxVersion = 32
)

// info is all of the server's INFO that an agent gets to see. Nonce is read for
// the login and not passed on: with it, or with auth_required, the agent's client
// would want a credential of its own.
type info struct {
	ServerID   string `json:"server_id"`
	Version    string `json:"version"`
	Proto      int    `json:"proto"`
	Host       string `json:"host"`
	Port       int    `json:"port"`
	Headers    bool   `json:"headers"`
	MaxPayload int64  `json:"max_payload"`
}

// rewriteInfo returns the INFO line for the agent and the nonce to be signed.
func rewriteInfo(line []byte) (rewritten []byte, nonce string, err error) {
	body, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok {
		return nil, "", errors.New("broker did not begin with INFO")
	}
	var server struct {
		info
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(body, &server); err != nil {
		return nil, "", fmt.Errorf("parse INFO: %w", err)
	}
	if server.Nonce == "" {
		return nil, "", errors.New("broker sent no nonce")
	}
	server.Host, server.Port = "hub", 4222
	server.MaxPayload = min(server.MaxPayload, wire.MaxPayload)
	text, err := json.Marshal(server.info)
	if err != nil {
		return nil, "", fmt.Errorf("encode INFO: %w", err)
	}
	return fmt.Appendf(nil, "INFO %s\r\n", text), server.Nonce, nil
}

// connect is the CONNECT that the broker gets.
type connect struct {
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
	Echo         bool   `json:"echo"`
	Name         string `json:"name"`
	Lang         string `json:"lang,omitempty"`
	Version      string `json:"version,omitempty"`
	// Protocol is 0: with 1 the server sends further INFO lines, which name the
	// account and the nodes of a cluster.
	Protocol int    `json:"protocol"`
	JWT      string `json:"jwt"`
	Sig      string `json:"sig"`
}

// rewriteConnect builds the login of cluster from the agent's CONNECT, of which
// only echo, lang and version are taken.
func rewriteConnect(body []byte, cluster, token string, sig []byte) ([]byte, error) {
	agent := struct {
		Echo    bool   `json:"echo"`
		Lang    string `json:"lang"`
		Version string `json:"version"`
	}{Echo: true}
	if err := json.Unmarshal(body, &agent); err != nil {
		return nil, fmt.Errorf("parse CONNECT: %w", err)
	}
	text, err := json.Marshal(connect{
		Headers: true, NoResponders: true, Echo: agent.Echo,
		Name: cluster, Lang: printable(agent.Lang), Version: printable(agent.Version),
		JWT: token, Sig: base64.RawURLEncoding.EncodeToString(sig),
	})
	if err != nil {
		return nil, fmt.Errorf("encode CONNECT: %w", err)
	}
	return fmt.Appendf(nil, "CONNECT %s\r\n", text), nil
}

// printable cuts s and leaves only what needs no escape in JSON.
func printable(s string) string {
	clean := make([]byte, 0, maxVersion)
	for i := 0; i < len(s) && len(clean) < maxVersion; i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_', c == '+':
			clean = append(clean, c)
		}
	}
	return string(clean)
}

// readLine reads one line, and nothing behind it may have been sent.
func readLine(r io.Reader, limit int) ([]byte, error) {
	line := make([]byte, 0, 1024)
	for {
		if len(line) == cap(line) {
			if len(line) >= limit {
				return nil, errors.New("line is too long")
			}
			line = append(line, 0)[:len(line)]
		}
		n, err := r.Read(line[len(line):min(cap(line), limit)])
		line = line[:len(line)+n]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			if i != len(line)-1 {
				return nil, errors.New("more than one line")
			}
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if err != nil {
			return nil, err
		}
	}
}
