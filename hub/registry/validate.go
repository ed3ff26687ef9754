// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

const (
	noCredentials = "looks like a credential: the registry only refers to objects that hold credentials"
	privateKey    = "PRIVATE KEY-----"
)

var (
	jsonTokenPattern = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)
	longTokenPattern = regexp.MustCompile(`^[A-Za-z0-9_+/=-]{32,}$`)
)

// Validate refuses what a schema cannot: credentials, and authorities that are
// not certificates.
func Validate(obj map[string]any) field.ErrorList {
	var errs field.ErrorList
	spec := object(obj, "spec")
	at := field.NewPath("spec", "authInfo")
	for _, who := range []string{"user", "controller"} {
		ref := object(object(spec, "authInfo"), who)
		for _, f := range []string{"kind", "name", "namespace"} {
			if text, _ := ref[f].(string); looksSecret(text) {
				errs = append(errs, field.Invalid(at.Child(who, f), "<hidden>", noCredentials))
			}
		}
	}
	if text, _ := object(spec, "kubernetesApiEndpoints")["caBundle"].(string); text != "" {
		if problem := checkBundle(text); problem != "" {
			errs = append(errs, field.Invalid(field.NewPath("spec", "kubernetesApiEndpoints", "caBundle"), "<hidden>", problem))
		}
	}
	for k, v := range object(object(obj, "metadata"), "annotations") {
		if text, _ := v.(string); strings.Contains(text, privateKey) || jsonTokenPattern.MatchString(text) {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations").Key(k), "<hidden>", noCredentials))
		}
	}
	return errs
}

// looksSecret reports whether a reference is no name but a secret: PEM, a web
// token, an authorization header, a URL with a password, or long random text.
func looksSecret(text string) bool {
	lower := strings.ToLower(text)
	switch {
	case strings.ContainsAny(text, " \t\r\n"), strings.Contains(text, "-----BEGIN"), jsonTokenPattern.MatchString(text):
		return true
	case strings.HasPrefix(lower, "bearer"), strings.HasPrefix(lower, "basic:"), strings.Contains(text, "://"):
		return true
	}
	return longTokenPattern.MatchString(text) && strings.ContainsAny(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") &&
		strings.ContainsAny(text, "abcdefghijklmnopqrstuvwxyz") && strings.ContainsAny(text, "0123456789")
}

func checkBundle(text string) string {
	rest, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "" // the schema's to refuse
	}
	if strings.Contains(string(rest), privateKey) {
		return "holds a private key: give certificates only"
	}
	n := 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return "holds a PEM block of type " + block.Type + ": give certificates only"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "holds a certificate that cannot be read: " + err.Error()
		}
		n++
	}
	if n == 0 {
		return "holds no PEM certificate"
	}
	return ""
}
