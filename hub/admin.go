// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/drover-io/drover/pki/ca"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/durable"
)

// The admin credential: whoever can read the data dir is the administrator.
const (
	adminUser  = "admin"
	adminGroup = "system:masters"
	adminCheck = 12 * time.Hour
)

// admin keeps DIR/admin.kubeconfig valid.
type admin struct {
	cfg *Config
	ca  *ca.CA
	url string
	log *zap.Logger
}

// run renews the credential before it ends, until ctx ends.
func (a *admin) run(ctx context.Context) error {
	t := time.NewTicker(adminCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		if err := a.ensure(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.log.Error("renewing the admin credential failed, will try again", zap.Error(err))
		}
	}
}

// ensure writes the kubeconfig when it is missing, has a third of its life left
// or less, or speaks of another hub address or root.
func (a *admin) ensure(ctx context.Context, now time.Time) error {
	path := a.cfg.AdminKubeconfig()
	cfg, err := clientcmd.LoadFromFile(path)
	switch {
	case err == nil && a.current(cfg, now):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		a.log.Warn("the admin credential cannot be read and is made anew", zap.Error(err))
	}
	key, err := identity.GenerateKey()
	if err != nil {
		return err
	}
	keyPEM, err := identity.MarshalKey(key)
	if err != nil {
		return err
	}
	csr, err := identity.NewUserRequest(key, adminUser)
	if err != nil {
		return err
	}
	issued, err := a.ca.SignUser(ctx, csr, adminUser, []string{adminGroup})
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	text, err := clientcmd.Write(*a.kubeconfig(issued.ChainPEM, keyPEM))
	if err != nil {
		return err
	}
	return durable.WriteFile(path, text, 0o600)
}

func (a *admin) kubeconfig(chain, key []byte) *clientcmdapi.Config {
	const name = "drover"
	c := clientcmdapi.NewConfig()
	c.Clusters[name] = &clientcmdapi.Cluster{
		Server: a.url, CertificateAuthorityData: a.ca.RootsPEM(),
		// The hub proves who it is by this name, whatever its address is.
		TLSServerName: identity.APIName(a.ca.TrustDomain()),
	}
	c.AuthInfos[adminUser] = &clientcmdapi.AuthInfo{ClientCertificateData: chain, ClientKeyData: key}
	c.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: adminUser}
	c.CurrentContext = name
	return c
}

func (a *admin) current(c *clientcmdapi.Config, now time.Time) bool {
	cluster, user := c.Clusters["drover"], c.AuthInfos[adminUser]
	if cluster == nil || user == nil || cluster.Server != a.url ||
		string(cluster.CertificateAuthorityData) != string(a.ca.RootsPEM()) {
		return false
	}
	if st, err := os.Stat(a.cfg.AdminKubeconfig()); err != nil || st.Mode().Perm()&0o077 != 0 {
		return false
	}
	pair, err := tls.X509KeyPair(user.ClientCertificateData, user.ClientKeyData)
	if err != nil {
		return false
	}
	return now.Before(pair.Leaf.NotAfter.Add(-pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore) / 3))
}

func rootPool(c *ca.CA) func() *x509.CertPool {
	return func() *x509.CertPool {
		pool := x509.NewCertPool()
		for _, r := range c.Roots() {
			pool.AddCert(r)
		}
		return pool
	}
}
