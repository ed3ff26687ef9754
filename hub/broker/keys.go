// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/drover-io/drover/shared/durable"
	"github.com/drover-io/drover/shared/wire"
)

// KeysFile holds the seeds. JetStream keeps its data under the public key of the
// application account: without this file the data is unreachable.
const KeysFile = "keys.json"

// seeds is the content of KeysFile. They are one file so that a crash leaves
// either all of them or none.
type seeds struct {
	Operator    string `json:"operator"`
	System      string `json:"system"`      // account
	Application string `json:"application"` // account
	Agents      string `json:"agents"`      // signing key of the application account, scoped to one cluster
}

// keys are the parsed seeds.
type keys struct {
	operator, system, application, agents nkeys.KeyPair

	systemPublic, applicationPublic, agentsPublic string
}

// loadKeys reads the seeds of dir, or creates them in a new directory.
func loadKeys(dir string) (*keys, error) {
	path := filepath.Join(dir, KeysFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, server.JetStreamStoreDir)); err == nil {
			return nil, fmt.Errorf("%s is missing but there is data: restore it from the backup the data came from", KeysFile)
		}
		return createKeys(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", KeysFile, cause(err))
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", KeysFile, cause(err))
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, want 0600: chmod 600 it", KeysFile, mode)
	}
	var s seeds
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("parse %s: %w", KeysFile, err)
	}
	k, err := parseKeys(s)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", KeysFile, err)
	}
	return k, nil
}

func createKeys(path string) (*keys, error) {
	var s seeds
	for _, key := range []struct {
		seed   *string
		create func() (nkeys.KeyPair, error)
	}{
		{&s.Operator, nkeys.CreateOperator},
		{&s.System, nkeys.CreateAccount},
		{&s.Application, nkeys.CreateAccount},
		{&s.Agents, nkeys.CreateAccount},
	} {
		pair, err := key.create()
		if err != nil {
			return nil, fmt.Errorf("create key: %w", err)
		}
		seed, err := pair.Seed()
		if err != nil {
			return nil, fmt.Errorf("create key: %w", err)
		}
		*key.seed = string(seed)
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", KeysFile, err)
	}
	if err := durable.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", KeysFile, cause(err))
	}
	return parseKeys(s)
}

func parseKeys(s seeds) (*keys, error) {
	k := &keys{}
	for _, key := range []struct {
		field  string
		seed   string
		prefix nkeys.PrefixByte
		pair   *nkeys.KeyPair
		public *string
	}{
		{"operator", s.Operator, nkeys.PrefixByteOperator, &k.operator, nil},
		{"system", s.System, nkeys.PrefixByteAccount, &k.system, &k.systemPublic},
		{"application", s.Application, nkeys.PrefixByteAccount, &k.application, &k.applicationPublic},
		{"agents", s.Agents, nkeys.PrefixByteAccount, &k.agents, &k.agentsPublic},
	} {
		prefix, _, err := nkeys.DecodeSeed([]byte(key.seed))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key.field, err)
		}
		if prefix != key.prefix {
			return nil, fmt.Errorf("%s: is a key of kind %s", key.field, prefix)
		}
		if *key.pair, err = nkeys.FromSeed([]byte(key.seed)); err != nil {
			return nil, fmt.Errorf("%s: %w", key.field, err)
		}
		if key.public != nil {
			if *key.public, err = (*key.pair).PublicKey(); err != nil {
				return nil, fmt.Errorf("%s: %w", key.field, err)
			}
		}
	}
	return k, nil
}

// claims makes the operator's and the accounts' JWTs, anew at every start.
func (k *keys) claims() (*jwt.OperatorClaims, *server.MemAccResolver, error) {
	public, err := k.operator.PublicKey()
	if err != nil {
		return nil, nil, fmt.Errorf("operator key: %w", err)
	}
	operator := jwt.NewOperatorClaims(public)
	operator.Name = "drover"
	operator.SystemAccount = k.systemPublic

	system := jwt.NewAccountClaims(k.systemPublic)
	system.Name = "SYS"

	application := jwt.NewAccountClaims(k.applicationPublic)
	application.Name = "DROVER"
	application.Limits.DisallowBearer = true
	application.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit,
		Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
	}
	application.SigningKeys.AddScopedSigner(agentScope(k.agentsPublic))

	resolver := &server.MemAccResolver{}
	for _, account := range []*jwt.AccountClaims{system, application} {
		token, err := account.Encode(k.operator)
		if err != nil {
			return nil, nil, fmt.Errorf("sign account %s: %w", account.Name, err)
		}
		if err := resolver.Store(account.Subject, token); err != nil {
			return nil, nil, fmt.Errorf("store account %s: %w", account.Name, err)
		}
	}
	return operator, resolver, nil
}

// agentScope is all that a user signed by key may do. The name of the user is
// the cluster.
func agentScope(key string) *jwt.UserScope {
	const cluster = "{{name()}}"
	scope := jwt.NewUserScope()
	scope.Key = key
	scope.Role = "agent"
	scope.Template.Pub.Allow.Add(wire.UpPrefix(cluster) + ">")
	scope.Template.Sub.Allow.Add(wire.InboxPrefix(cluster)+".>", wire.DownPrefix(cluster)+">")
	scope.Template.Subs = 64
	scope.Template.Payload = wire.MaxPayload
	scope.Template.Data = jwt.NoLimit
	return scope
}

// hubUser signs a user with all permissions in the application account.
func (k *keys) hubUser(name string, user nkeys.KeyPair) (string, error) {
	public, err := user.PublicKey()
	if err != nil {
		return "", fmt.Errorf("user key: %w", err)
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	token, err := claims.Encode(k.application)
	if err != nil {
		return "", fmt.Errorf("sign user %s: %w", name, err)
	}
	return token, nil
}
