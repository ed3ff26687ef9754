// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package openid

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Issuer is an OpenID Connect provider whose tokens the hub accepts, as the option
// "oidc" gives it.
type Issuer struct {
	// Name is what people call it: a-z, 0-9 and -. It is the default prefix of
	// users and groups, so changing it changes who they are.
	Name string `json:"name"`
	// IssuerURL is the "iss" of its tokens, https.
	IssuerURL string `json:"issuerURL"`
	// ClientID of the hub at the provider, for logins to the dashboard. Without it
	// there are none.
	ClientID string `json:"clientID,omitempty"`
	// ClientSecretFile holds the hub's secret at the provider. Empty: the client is
	// a public one.
	ClientSecretFile string `json:"clientSecretFile,omitempty"`
	// CLIClientID of the public client that `drover login` uses. Empty: ClientID, if
	// that has no secret.
	CLIClientID string `json:"cliClientID,omitempty"`
	// Audiences that tokens may be made for. Empty: the two clients.
	Audiences []string `json:"audiences,omitempty"`
	// Scopes to ask for beside openid. Empty: profile, email, groups, offline_access.
	// offline_access is for the CLI alone.
	Scopes []string `json:"scopes,omitempty"`

	// UsernameClaim becomes the user's name, default "sub"; UsernamePrefix goes
	// before it, default "NAME:", and "-" stands for none.
	UsernameClaim  string `json:"usernameClaim,omitempty"`
	UsernamePrefix string `json:"usernamePrefix,omitempty"`
	// GroupsClaim is a text or a list of them, default "groups"; GroupsPrefix goes
	// before each, default "NAME:", and "-" stands for none.
	GroupsClaim  string `json:"groupsClaim,omitempty"`
	GroupsPrefix string `json:"groupsPrefix,omitempty"`
	// ExtraClaims are kept with the user: key such as example.com/department to
	// the name of a claim.
	ExtraClaims map[string]string `json:"extraClaims,omitempty"`
	// RequiredClaims must be in a token: with this text, or with it in a list.
	RequiredClaims map[string]string `json:"requiredClaims,omitempty"`

	// CAFile holds the certificates that the provider's must descend from, PEM.
	// Empty: the system's.
	CAFile string `json:"caFile,omitempty"`
}

// Issuers are several, and a value for an option on the command line, in the
// environment or in a file.
type Issuers []Issuer

var (
	issuerName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)
	extraKey   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-_.a-z0-9]+$`)
)

// String is the option's value as one line of YAML.
func (l *Issuers) String() string {
	if len(*l) == 0 {
		return ""
	}
	text, err := json.Marshal(*l)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Type names the form for the help.
func (l *Issuers) Type() string { return "yaml" }

// Set reads a YAML or JSON list.
func (l *Issuers) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		*l = nil
		return nil
	}
	var v any
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		return fmt.Errorf("want a YAML list: %w", err)
	}
	return l.SetStructured(v)
}

// SetStructured takes the value as it stands in a file of options.
func (l *Issuers) SetStructured(v any) error {
	list, ok := v.([]any)
	if !ok {
		return errors.New("want a list of issuers")
	}
	out := make(Issuers, len(list))
	for i, entry := range list {
		text, err := json.Marshal(entry)
		if err == nil {
			err = yaml.UnmarshalStrict(text, &out[i])
		}
		if err != nil {
			reason := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error unmarshaling JSON: "), "while decoding JSON: json: ")
			return fmt.Errorf("entry %d: %s", i+1, reason)
		}
	}
	*l = out
	return nil
}

// Structured is the value for a file of options. It holds no secrets.
func (l *Issuers) Structured() any {
	return append([]Issuer{}, *l...) // no list is an empty one, which can be read again
}

// Problems lists all that is wrong, each with the name of its field.
func (l Issuers) Problems() []string {
	var wrong []string
	urls, names := map[string]bool{}, map[string]bool{}
	for i := range l {
		iss := &l[i]
		bad := func(field, format string, args ...any) {
			wrong = append(wrong, fmt.Sprintf("oidc[%d].%s: ", i, field)+fmt.Sprintf(format, args...))
		}
		if !issuerName.MatchString(iss.Name) {
			bad("name", "%q: want 1 to 32 of a-z, 0-9 and -", iss.Name)
		} else if names[iss.Name] {
			bad("name", "%q is there twice", iss.Name)
		}
		u, err := url.Parse(iss.IssuerURL)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			bad("issuerURL", "%q: want https://host[:port][/path], as the provider's tokens have it in \"iss\"", iss.IssuerURL)
		} else if urls[iss.IssuerURL] {
			bad("issuerURL", "%q is there twice", iss.IssuerURL)
		}
		names[iss.Name], urls[iss.IssuerURL] = true, true
		if len(iss.audiences()) == 0 {
			bad("clientID", "missing; give it, or cliClientID or audiences")
		}
		if slices.Contains(iss.Audiences, "") {
			bad("audiences", "an empty one would accept tokens made for nobody")
		}
		if iss.ClientSecretFile != "" && iss.ClientID == "" {
			bad("clientSecretFile", "needs clientID")
		}
		if strings.HasPrefix(iss.usernamePrefix(), "system:") {
			bad("usernamePrefix", `must not begin with "system:"`)
		}
		if strings.HasPrefix(iss.groupsPrefix(), "system:") {
			bad("groupsPrefix", `must not begin with "system:"`)
		}
		for key, claim := range iss.ExtraClaims {
			domain, _, _ := strings.Cut(key, "/")
			switch {
			case !extraKey.MatchString(key):
				bad("extraClaims", "key %q: want a lower-case name with a domain, such as example.com/department", key)
			case domain == "drover.io" || strings.HasSuffix("."+domain, ".kubernetes.io") || strings.HasSuffix("."+domain, ".k8s.io"):
				bad("extraClaims", "key %q: the domain is reserved", key)
			case claim == "":
				bad("extraClaims", "key %q: the name of the claim is missing", key)
			}
		}
		for claim, want := range iss.RequiredClaims {
			if claim == "" || want == "" {
				bad("requiredClaims", "%q: %q: neither may be empty", claim, want)
			}
		}
		for field, file := range map[string]string{"caFile": iss.CAFile, "clientSecretFile": iss.ClientSecretFile} {
			if file == "" {
				continue
			}
			if _, err := os.Stat(file); err != nil {
				bad(field, "%v", err)
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

func (i *Issuer) audiences() []string {
	if len(i.Audiences) > 0 {
		return i.Audiences
	}
	var out []string
	for _, id := range []string{i.ClientID, i.cliClientID()} {
		if id != "" && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func (i *Issuer) cliClientID() string {
	if i.CLIClientID == "" && i.ClientSecretFile == "" {
		return i.ClientID
	}
	return i.CLIClientID
}

func (i *Issuer) scopes() []string {
	scopes := i.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email", "groups", "offline_access"}
	}
	return append([]string{"openid"}, slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == "openid" })...)
}

func (i *Issuer) usernamePrefix() string { return prefix(i.UsernamePrefix, i.Name) }
func (i *Issuer) groupsPrefix() string   { return prefix(i.GroupsPrefix, i.Name) }

func prefix(set, name string) string {
	switch set {
	case "":
		return name + ":"
	case "-":
		return ""
	}
	return set
}
