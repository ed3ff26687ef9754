// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/drover-io/drover/shared/durable"
)

// Cache keeps the tokens of one person in a folder, one file each, for nobody else
// to read.
type Cache struct{ dir string }

// DefaultCache is drover/logins in the user's folder for caches, which $XDG_CACHE_HOME
// moves on Linux.
func DefaultCache() (Cache, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return Cache{}, fmt.Errorf("find the folder for logins: %w", err)
	}
	return Cache{filepath.Join(dir, "drover", "logins")}, nil
}

// NewCache keeps tokens in dir, which is made when it is needed.
func NewCache(dir string) Cache { return Cache{dir} }

// key names the login's file: another client or other scopes are another login.
func (i Issuer) key() string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{i.URL, i.ClientID}, i.Scopes...), "\n")))
	return hex.EncodeToString(sum[:16])
}

func (c Cache) path(i Issuer, ending string) string { return filepath.Join(c.dir, i.key()+ending) }

// Lock keeps other processes from logging in with the issuer, or refreshing, at the
// same time: a refresh token may be good for one use only.
func (c Cache) Lock(ctx context.Context, i Issuer) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for logins: %w", err)
	}
	type locked struct {
		unlock func()
		err    error
	}
	done := make(chan locked, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(c.path(i, ".lock")).Lock()
		done <- locked{unlock, err}
	}()
	select {
	case l := <-done:
		if l.err != nil {
			return nil, fmt.Errorf("lock the login: %w", l.err)
		}
		return l.unlock, nil
	case <-ctx.Done():
		go func() {
			if l := <-done; l.err == nil {
				l.unlock()
			}
		}()
		return nil, ctx.Err()
	}
}

// Load returns the token of the last login, or nil. A file that cannot be read as
// one counts as none; a file that others can read is an error.
func (c Cache) Load(i Issuer) (*Token, error) {
	path := c.path(i, ".json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the login: %w", err)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		return nil, fmt.Errorf("read the login: %s can be read by others (mode %04o); delete it and log in again", path, st.Mode().Perm())
	}
	return parseToken(text), nil
}

func parseToken(text []byte) *Token {
	var t Token
	if json.Unmarshal(text, &t) != nil || t.IDToken == "" {
		return nil
	}
	return &t
}

// Store keeps a token.
func (c Cache) Store(i Issuer, t *Token) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for logins: %w", err)
	}
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return durable.WriteFile(c.path(i, ".json"), text, 0o600)
}

// Delete forgets a token.
func (c Cache) Delete(i Issuer) error {
	err := os.Remove(c.path(i, ".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Get returns a token that can be used now: the one at hand, or a refreshed one,
// or one that again gets. Again is nil when there is nobody to ask; then it is
// ErrLoginNeeded. Only one process at a time refreshes or asks.
func (c Cache) Get(ctx context.Context, client *Client, again func(context.Context) (*Token, error)) (*Token, error) {
	t, err := c.Load(client.issuer)
	if err != nil || t.Valid(time.Now()) {
		return t, err
	}
	unlock, err := c.Lock(ctx, client.issuer)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err = c.Load(client.issuer); err != nil || t.Valid(time.Now()) {
		return t, err // somebody else was faster
	}
	fresh, err := client.Refresh(ctx, t)
	if errors.Is(err, ErrLoginNeeded) && again != nil {
		fresh, err = again(ctx)
	}
	if err != nil {
		return nil, err
	}
	return fresh, c.Store(client.issuer, fresh)
}
