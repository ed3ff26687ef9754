// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Package jointoken reads and writes the join token: the one string an operator
// hands to an agent so that it can find a hub, recognise it and ask to join.
//
// The text form is
//
//	drover1_ <base64url(JSON), no padding> <6 characters of CRC-32>
//
// The checksum is there for people, not for security: it tells a token that was
// cut or mistyped from one that the hub refuses, before any connection is made.
package jointoken

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"regexp"
	"strings"
)

const (
	// Prefix starts every token of format 1. Secret scanners look for it.
	Prefix = "drover1_"
	// MaxLength is the longest text, in bytes, that Parse looks at.
	MaxLength = 4096

	family    = "drover"
	idBytes   = 8
	secBytes  = 32
	sumLength = 6
)

// Every error of Parse and Encode is, or wraps, one of these.
var (
	// ErrEmpty: there is no text at all, as from an empty token file.
	ErrEmpty = errors.New("the join token is empty")
	// ErrPrefix: the text is something else than a Drover join token.
	ErrPrefix = errors.New("not a join token: it must start with " + Prefix)
	// ErrVersion: a join token, of a format this program does not know.
	ErrVersion = errors.New("the join token has a newer format than this program knows: upgrade the agent")
	// ErrDamaged: the checksum does not fit the text.
	ErrDamaged = errors.New("not a valid join token (truncated or mistyped): copy it again, whole")
	// ErrTooLong: the text is longer than MaxLength.
	ErrTooLong = fmt.Errorf("not a join token: longer than %d bytes", MaxLength)
)

// FieldError says which field of a token is missing or wrong. Its text never
// contains the secret.
type FieldError struct {
	Field   string // "hub URL", "pin", "trust domain", "id", "secret", "cluster name"
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string {
	return fmt.Sprintf("join token: %s %s", e.Field, e.Problem)
}

// Token is the content of a join token.
//
// Printed by package fmt or as JSON it shows the public id only, so that a token in a
// log line or an error gives nothing away.
type Token struct {
	// URLs of the hub, https or wss, at least one; the agent tries them in order.
	URLs []string
	// Pins are the SHA-256 of the SubjectPublicKeyInfo of each root the hub may
	// show, in lower-case hex; at least one.
	Pins []string
	// TrustDomain is the host part of every identity of this hub.
	TrustDomain string
	// ID is public: 8 bytes in hex. The hub finds its record by it.
	ID string
	// Secret is 32 random bytes, base64url. The hub stores only its hash.
	Secret string
	// Cluster is the name the token is bound to, or empty. A hint for the agent:
	// the hub enforces its own record.
	Cluster string
}

// wire is the JSON body. Unknown members are ignored, so a later hub can add one.
type wire struct {
	URLs    []string `json:"u"`
	Pins    []string `json:"p"`
	Domain  string   `json:"d"`
	ID      string   `json:"i"`
	Secret  string   `json:"s"`
	Cluster string   `json:"n,omitempty"`
}

// Encode returns the text form. It checks the fields as Parse does, so a token
// that was encoded can always be read.
func (t Token) Encode() (string, error) {
	if err := t.validate(); err != nil {
		return "", err
	}
	body, err := json.Marshal(wire{t.URLs, t.Pins, t.TrustDomain, t.ID, t.Secret, t.Cluster})
	if err != nil {
		return "", fmt.Errorf("encode join token: %w", err)
	}
	text := Prefix + base64.RawURLEncoding.EncodeToString(body)
	text += checksum(text)
	if len(text) > MaxLength {
		return "", ErrTooLong
	}
	return text, nil
}

// Parse reads the text form. White space around it is ignored, since tokens come
// from files and pipes; white space inside makes it damaged.
func Parse(text string) (Token, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Token{}, ErrEmpty
	case len(text) > MaxLength:
		return Token{}, ErrTooLong
	case !strings.HasPrefix(text, Prefix):
		return Token{}, prefixError(text)
	case len(text) < len(Prefix)+sumLength:
		return Token{}, ErrDamaged
	}
	cut := len(text) - sumLength
	if checksum(text[:cut]) != text[cut:] {
		return Token{}, ErrDamaged
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(text[len(Prefix):cut])
	if err != nil {
		return Token{}, ErrDamaged
	}
	var w wire
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&w); err != nil {
		// The checksum fits: whoever made this token made it wrong. The JSON
		// error is dropped because it can quote the secret.
		return Token{}, &FieldError{Field: "body", Problem: "is not the JSON of a join token: ask for a new token"}
	}
	t := Token{URLs: w.URLs, Pins: w.Pins, TrustDomain: w.Domain, ID: w.ID, Secret: w.Secret, Cluster: w.Cluster}
	if err := t.validate(); err != nil {
		return Token{}, err
	}
	return t, nil
}

// prefixError tells a token of a later format from something else.
func prefixError(text string) error {
	rest, ok := strings.CutPrefix(text, family)
	version, _, found := strings.Cut(rest, "_")
	if ok && found && version != "" && strings.Trim(version, "0123456789") == "" {
		return ErrVersion
	}
	return ErrPrefix
}

func checksum(text string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(text)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (t Token) validate() error {
	if len(t.URLs) == 0 {
		return &FieldError{"hub URL", "is missing"}
	}
	for _, u := range t.URLs {
		if err := validURL(u); err != nil {
			return err
		}
	}
	if len(t.Pins) == 0 {
		return &FieldError{"pin", "is missing: without it the hub cannot be recognised"}
	}
	for _, p := range t.Pins {
		if !lowerHex(p, 32) {
			return &FieldError{"pin", "is not 64 lower-case hex digits"}
		}
	}
	switch {
	case t.TrustDomain == "":
		return &FieldError{"trust domain", "is missing"}
	case len(t.TrustDomain) > 200 || !domainRE.MatchString(t.TrustDomain):
		return &FieldError{"trust domain", "is not a lower-case DNS name"}
	case t.ID == "":
		return &FieldError{"id", "is missing"}
	case !lowerHex(t.ID, idBytes):
		return &FieldError{"id", "is not 16 lower-case hex digits"}
	case t.Secret == "":
		return &FieldError{"secret", "is missing"}
	case !validSecret(t.Secret):
		return &FieldError{"secret", "is not 43 base64url characters"}
	case t.Cluster != "" && !nameRE.MatchString(t.Cluster):
		return &FieldError{"cluster name", "is not a lower-case DNS label of at most 63 characters"}
	}
	return nil
}

func validURL(text string) error {
	// The parser's error is dropped: url.Parse quotes its input, and an operator
	// may have put a password into it.
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return &FieldError{"hub URL", "cannot be parsed"}
	case u.Scheme != "https" && u.Scheme != "wss":
		return &FieldError{"hub URL", "must start with https:// or wss://"}
	case u.Hostname() == "":
		return &FieldError{"hub URL", "has no host"}
	case u.User != nil:
		return &FieldError{"hub URL", "must not contain a user name"}
	case u.RawQuery != "" || u.Fragment != "":
		return &FieldError{"hub URL", "must not contain a query or fragment"}
	}
	return nil
}

func lowerHex(s string, n int) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == n && s == strings.ToLower(s)
}

func validSecret(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == secBytes
}

var (
	domainRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	nameRE   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
)
