// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/hub/auth"
)

// Keys of what is kept of a provider's token.
const (
	// ExtraIssuer is the name of the provider, as the hub's options have it.
	ExtraIssuer = "drover.io/issuer"
	// ExtraCredential is the token's id, as Kubernetes writes it.
	ExtraCredential = "authentication.kubernetes.io/credential-id"
)

// skew is how much the clocks of hub and provider may differ.
const skew = 30 * time.Second

// claims of a token whose signature was verified.
type claims map[string]any

func parseClaims(payload []byte) (claims, error) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	var c claims
	if err := dec.Decode(&c); err != nil || c == nil {
		return nil, errors.New("the token's claims are not a JSON object")
	}
	return c, nil
}

// time returns a claim of seconds since 1970, with ok only if it is there.
func (c claims) time(name string) (t time.Time, ok bool, err error) {
	v, ok := c[name]
	if !ok || v == nil {
		return t, false, nil
	}
	n, isNumber := v.(json.Number)
	if isNumber {
		if f, err := n.Float64(); err == nil && f > -1e11 && f < 1e11 {
			return time.Unix(int64(f), 0), true, nil
		}
	}
	return t, false, fmt.Errorf("claim %q is not a time", name)
}

// checkTimes refuses a token that is over, or not yet valid. Pure.
func (c claims) checkTimes(now time.Time) error {
	exp, ok, err := c.time("exp")
	switch {
	case err != nil:
		return err
	case !ok:
		return errors.New(`claim "exp" is missing`)
	case !now.Before(exp.Add(skew)):
		return fmt.Errorf("the token expired at %s; log in again", exp.UTC().Format(time.RFC3339))
	}
	for _, name := range []string{"nbf", "iat"} {
		at, ok, err := c.time(name)
		if err != nil {
			return err
		}
		if ok && now.Add(skew).Before(at) {
			return fmt.Errorf("the token is not valid before %s (%s); do the clocks of hub and provider agree?", at.UTC().Format(time.RFC3339), name)
		}
	}
	return nil
}

// texts returns a claim that is a text or a list of texts, with ok only if it is there.
func (c claims) texts(name string) (list []string, ok bool, err error) {
	switch v := c[name].(type) {
	case nil:
		return nil, false, nil
	case string:
		return []string{v}, true, nil
	case []any:
		for _, e := range v {
			s, isText := e.(string)
			if !isText {
				return nil, false, fmt.Errorf("claim %q: want a text or a list of texts", name)
			}
			list = append(list, s)
		}
		return list, true, nil
	}
	return nil, false, fmt.Errorf("claim %q: want a text or a list of texts", name)
}

func (c claims) checkRequired(required map[string]string) error {
	for name, want := range required {
		list, ok, err := c.texts(name)
		if b, isBool := c[name].(bool); isBool {
			list, ok, err = []string{fmt.Sprint(b)}, true, nil
		}
		if err != nil {
			return err
		}
		found := false
		for _, have := range list {
			found = found || have == want
		}
		if !ok || !found {
			return fmt.Errorf("claim %q does not have the value that this hub requires", name)
		}
	}
	return nil
}

// user is who a token speaks for. Names that Kubernetes keeps for itself are
// nobody's to give: such a user is refused, such a group left out. Pure.
func (i *Issuer) user(c claims) (*user.DefaultInfo, error) {
	claim := i.UsernameClaim
	if claim == "" {
		claim = "sub"
	}
	name, _ := c[claim].(string)
	if name == "" {
		return nil, fmt.Errorf("claim %q, which names the user, is missing or no text", claim)
	}
	if verified, there := c["email_verified"]; claim == "email" && there && verified != true && verified != "true" {
		return nil, errors.New(`claim "email_verified" is not true`)
	}
	if err := plain(name); err != nil {
		return nil, fmt.Errorf("claim %q: %w", claim, err)
	}
	name = i.usernamePrefix() + name
	if strings.HasPrefix(name, "system:") {
		return nil, fmt.Errorf("claim %q: names that begin with \"system:\" are reserved", claim)
	}
	claim = i.GroupsClaim
	if claim == "" {
		claim = "groups"
	}
	list, _, err := c.texts(claim)
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, g := range list {
		full := i.groupsPrefix() + g
		if g == "" || plain(g) != nil || strings.HasPrefix(full, "system:") {
			continue
		}
		groups = append(groups, full)
	}
	extra := map[string][]string{ExtraIssuer: {i.Name}}
	for key, claim := range i.ExtraClaims {
		values, ok, err := c.texts(claim)
		if err != nil {
			return nil, err
		}
		if ok {
			extra[key] = values
		}
	}
	if id, _ := c["jti"].(string); id != "" && plain(id) == nil {
		extra[ExtraCredential] = []string{"JTI=" + id}
	}
	return &user.DefaultInfo{Name: name, Groups: auth.WithAuthenticated(groups), Extra: extra}, nil
}

// plain refuses what could deceive who reads it in a list or a log.
func plain(name string) error {
	if len(name) > 512 || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return errors.New("too long, or with characters that cannot be shown")
	}
	return nil
}
