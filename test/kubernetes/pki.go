// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// The clients that get a certificate.
const (
	clientAdmin      = "admin"
	clientController = "system:kube-controller-manager"
	clientScheduler  = "system:kube-scheduler"
	clientKwok       = "kwok"
	clientProxy      = "front-proxy-client"
)

// pki is the directory of keys, certificates and kubeconfigs of one cluster.
type pki struct {
	dir string
}

// openPKI returns the keys of a cluster and makes them first if dir does not
// exist. They are kept over a restart, so that tokens and kubeconfigs that a
// test handed out stay good.
func openPKI(dir string) (pki, error) {
	if _, err := os.Stat(dir); err == nil {
		return pki{dir}, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return pki{}, err
	}

	p := pki{dir + ".new"} // complete or absent: renamed at the end
	if err := os.RemoveAll(p.dir); err != nil {
		return pki{}, err
	}
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return pki{}, err
	}
	if err := p.generate(); err != nil {
		return pki{}, err
	}
	if err := os.Rename(p.dir, dir); err != nil {
		return pki{}, err
	}
	return pki{dir}, nil
}

func (p pki) path(name string) string       { return filepath.Join(p.dir, name) }
func (p pki) cert(name string) string       { return p.path(name + ".crt") }
func (p pki) key(name string) string        { return p.path(name + ".key") }
func (p pki) kubeconfig(name string) string { return p.path(name + ".kubeconfig") }

// generate makes all keys and certificates.
func (p pki) generate() error {
	caKey, err := p.newKey("ca")
	if err != nil {
		return err
	}
	ca := template("kubetest")
	ca.IsCA, ca.BasicConstraintsValid = true, true
	ca.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	if err := p.sign("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}

	server := template("kube-apiserver")
	server.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	server.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 0, 1)}
	server.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	if err := p.issue("apiserver", server, ca, caKey); err != nil {
		return err
	}

	for name, groups := range map[string][]string{
		clientAdmin: {"system:masters"},
		// It runs without credentials of its own for each controller, and its
		// own role is not enough for what they do.
		clientController: {"system:masters"},
		clientScheduler:  nil,
		clientKwok:       {"system:masters"},
		clientProxy:      nil,
	} {
		client := template(name)
		client.Subject.Organization = groups
		client.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		if err := p.issue(name, client, ca, caKey); err != nil {
			return err
		}
	}
	return p.newServiceAccountKey()
}

// writeKubeconfigs writes a kubeconfig for each client of the API server.
func (p pki) writeKubeconfigs(server string) error {
	ca, err := os.ReadFile(p.cert("ca"))
	if err != nil {
		return err
	}
	for _, name := range []string{clientController, clientScheduler, clientKwok, clientAdmin} {
		cert, err := os.ReadFile(p.cert(name))
		if err != nil {
			return err
		}
		key, err := os.ReadFile(p.key(name))
		if err != nil {
			return err
		}
		c := api.NewConfig()
		c.Clusters["kubetest"] = &api.Cluster{Server: server, CertificateAuthorityData: ca}
		c.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
		c.Contexts["kubetest"] = &api.Context{Cluster: "kubetest", AuthInfo: name}
		c.CurrentContext = "kubetest"
		data, err := clientcmd.Write(*c)
		if err != nil {
			return fmt.Errorf("encode kubeconfig %s: %w", name, err)
		}
		if err := writeFile(p.kubeconfig(name), data); err != nil {
			return err
		}
	}
	return nil
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
}

// issue makes a key and has it certified by ca.
func (p pki) issue(name string, t, ca *x509.Certificate, caKey *ecdsa.PrivateKey) error {
	key, err := p.newKey(name)
	if err != nil {
		return err
	}
	return p.sign(name, t, ca, key, caKey)
}

func (p pki) sign(name string, t, parent *x509.Certificate, key, caKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("sign certificate %s: %w", name, err)
	}
	return writePEM(p.cert(name), "CERTIFICATE", der)
}

func (p pki) newKey(name string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key %s: %w", name, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key %s: %w", name, err)
	}
	return key, writePEM(p.key(name), "EC PRIVATE KEY", der)
}

// newServiceAccountKey makes the key pair that signs ServiceAccount tokens.
func (p pki) newServiceAccountKey() error {
	key, err := p.newKey("sa")
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return fmt.Errorf("encode key sa: %w", err)
	}
	return writePEM(p.path("sa.pub"), "PUBLIC KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
