// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/drover-io/drover/shared/apis/fleet"
)

const (
	// linkLife is how long a one-time link is good for; they are few and kept in
	// memory: a restart voids them.
	linkLife = time.Minute
	maxLinks = 100
)

// link is one that was not used yet.
type link struct {
	who      user.Info
	returnTo string
	expires  time.Time
	notAfter time.Time // of the certificate
}

// links are the open ones by the hash of their code, so that looking one up takes
// no longer for a code that is nearly right.
type links struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]link
}

// add returns the code, or false when too many are open.
func (l *links) add(n link, now time.Time) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open = map[[sha256.Size]byte]link{}
	}
	for hash, old := range l.open {
		if !now.Before(old.expires) {
			delete(l.open, hash)
		}
	}
	if len(l.open) >= maxLinks {
		return "", false
	}
	code := rand.Text() + rand.Text() // 260 bits
	l.open[sha256.Sum256([]byte(code))] = n
	return code, true
}

// take returns the link of a code, once.
func (l *links) take(code string, now time.Time) (link, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	hash := sha256.Sum256([]byte(code))
	n, ok := l.open[hash]
	delete(l.open, hash)
	return n, ok && now.Before(n.expires)
}

// makeLink lets the holder of a client certificate log a browser in. Other
// credentials cannot: a leaked token must not become a session.
func (l *Login) makeLink(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		ReturnTo string `json:"returnTo"`
	}
	if err := read(r, &body); err != nil {
		return err
	}
	who, ok, err := l.cfg.Certificates.AuthenticateRequest(r)
	if err != nil {
		return apierrors.NewUnauthorized("Unauthorized: " + err.Error())
	}
	if !ok {
		if _, err := l.who(r); err != nil {
			return err
		}
		return forbidden("a link can only be made with a client certificate; log in at " + l.cfg.URLs[0] + PathPage)
	}
	now := time.Now()
	expires := now.Add(linkLife)
	code, ok := l.links.add(link{who.User, local(body.ReturnTo), expires, r.TLS.PeerCertificates[0].NotAfter}, now)
	if !ok {
		return apierrors.NewTooManyRequests("too many links are open, try again", int(linkLife.Seconds()))
	}
	if err := l.record(r, event{verb: "create", who: who.User, what: "loginlinks", code: http.StatusCreated}); err != nil {
		return err
	}
	respond(w, http.StatusCreated, map[string]any{
		// The code is in the fragment, which a browser sends to nobody.
		"url":     l.cfg.URLs[0] + PathPage + "#" + url.Values{"code": {code}}.Encode(),
		"expires": expires.UTC().Format(time.RFC3339),
	})
	return nil
}

func (l *Login) redeem(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Code string `json:"code"`
	}
	if err := read(r, &body); err != nil {
		return err
	}
	n, ok := l.links.take(body.Code, time.Now())
	if !ok {
		return l.refuse(r, "", "the link is used or older than a minute; make another with `drover dashboard`")
	}
	if err := l.start(w, r, n.who, fleet.SessionSpec{Method: fleet.SessionByCertificate}, n.notAfter); err != nil {
		return err
	}
	respond(w, http.StatusOK, map[string]string{"returnTo": n.returnTo})
	return nil
}
