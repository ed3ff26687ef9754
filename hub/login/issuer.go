// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package login

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/oauth2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/drover-io/drover/hub/auth/openid"
	"github.com/drover-io/drover/shared/apis/fleet"
)

// tripCookie remembers a login while the browser is at the provider's. It holds
// nothing that its own browser must not know, and no other can set it: so no
// store is needed, and no other browser can be made to finish this login.
const tripCookie = "__Host-drover-login"

// tripLife is how long somebody may take to log in at the provider.
const tripLife = 10 * time.Minute

// trip is the cookie's value.
type trip struct {
	openid.SignIn
	ReturnTo string `json:"r"`
	Started  int64  `json:"t"` // seconds since 1970
}

func (t trip) cookie() (*http.Cookie, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return setTrip(base64.RawURLEncoding.EncodeToString(text), int(tripLife.Seconds())), nil
}

// setTrip is Lax: the way back from the provider begins on another site.
func setTrip(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: tripCookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
}

var errNoTrip = errors.New("this login was not begun in this browser, or too long ago; begin again")

// parseTrip reads the cookie of a login whose state the provider sent back.
func parseTrip(value, state string, now time.Time) (trip, error) {
	var t trip
	if len(value) > 4096 {
		return t, errNoTrip
	}
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil || json.Unmarshal(text, &t) != nil {
		return trip{}, errNoTrip
	}
	age := now.Sub(time.Unix(t.Started, 0))
	if t.State == "" || t.Verifier == "" || t.Nonce == "" || age < -time.Minute || age > tripLife ||
		subtle.ConstantTimeCompare([]byte(t.State), []byte(state)) != 1 {
		return trip{}, errNoTrip
	}
	return t, nil
}

// begin answers with where the page must lead the browser.
func (l *Login) begin(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Issuer   string `json:"issuer"`
		ReturnTo string `json:"returnTo"`
	}
	if err := read(r, &body); err != nil {
		return err
	}
	redirect, err := l.redirect(r)
	if err != nil {
		return err
	}
	release, err := l.takeTrip()
	if err != nil {
		return err
	}
	defer release()
	t := trip{
		SignIn:   openid.SignIn{Issuer: body.Issuer, State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier()},
		ReturnTo: local(body.ReturnTo), Started: time.Now().Unix(),
	}
	location, err := l.cfg.Providers.AuthURL(r.Context(), t.SignIn, redirect)
	if errors.Is(err, openid.ErrNoIssuer) {
		return apierrors.NewBadRequest("issuer: " + err.Error())
	}
	if err != nil {
		l.cfg.Log.Warn("a login cannot begin", zap.String("issuer", body.Issuer), zap.Error(err))
		return apierrors.NewServiceUnavailable("the identity provider cannot be reached; try again, or ask who runs it")
	}
	cookie, err := t.cookie()
	if err != nil {
		return err
	}
	http.SetCookie(w, cookie)
	respond(w, http.StatusOK, map[string]string{"location": location})
	return nil
}

func (l *Login) takeTrip() (release func(), err error) {
	select {
	case l.trips <- struct{}{}:
		return func() { <-l.trips }, nil
	default:
		return nil, apierrors.NewTooManyRequests("too many logins at once, try again", 1)
	}
}

// redirect is this hub's callback under the address that the browser uses, which
// must be one that the hub is known by: the provider checks it too.
func (l *Login) redirect(r *http.Request) (string, error) {
	for _, base := range l.cfg.URLs {
		if u, err := url.Parse(base); err == nil && strings.EqualFold(u.Host, r.Host) {
			return base + pathCallback, nil
		}
	}
	return "", apierrors.NewBadRequest("the hub is not known by the address " + clip(r.Host) + "; open " + l.cfg.URLs[0] + ", or add this one to the option advertise")
}

// callback finishes a login. It answers a browser, not a script: errors lead to
// the login page, which shows them.
func (l *Login) callback(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, setTrip("", -1))
	back, err := l.finish(w, r)
	if err != nil {
		text := "The login failed. The hub's log has the details."
		var status apierrors.APIStatus
		if errors.As(err, &status) {
			text = status.Status().Message
		} else {
			l.cfg.Log.Error("a login failed", zap.Error(err))
		}
		back = PathPage + "#" + url.Values{"error": {text}}.Encode()
	}
	http.Redirect(w, r, back, http.StatusSeeOther)
}

func (l *Login) finish(w http.ResponseWriter, r *http.Request) (returnTo string, err error) {
	q := r.URL.Query()
	var value string
	if c, err := r.Cookie(tripCookie); err == nil {
		value = c.Value
	}
	t, err := parseTrip(value, q.Get("state"), time.Now())
	if err != nil {
		return "", apierrors.NewBadRequest(err.Error())
	}
	if reason := q.Get("error"); reason != "" {
		return "", l.refuse(r, t.Issuer, "the identity provider refused: "+clip(reason+" "+q.Get("error_description")))
	}
	redirect, err := l.redirect(r)
	if err != nil {
		return "", err
	}
	release, err := l.takeTrip()
	if err != nil {
		return "", err
	}
	defer release()
	who, err := l.cfg.Providers.Finish(r.Context(), t.SignIn, redirect, q.Get("code"))
	if err != nil {
		l.cfg.Log.Warn("a login was refused", zap.String("issuer", t.Issuer), zap.String("address", address(r)), zap.Error(err))
		return "", l.refuse(r, t.Issuer, "the answer of the identity provider was not accepted: "+clip(reason(err)))
	}
	facts := fleet.SessionSpec{Method: fleet.SessionByIssuer, Issuer: t.Issuer}
	if err := l.start(w, r, who, facts, time.Time{}); err != nil {
		return "", err
	}
	return t.ReturnTo, nil
}

// reason keeps the provider's answer, which may quote what was sent, from the page.
func reason(err error) string {
	var answer *oauth2.RetrieveError
	if errors.As(err, &answer) {
		return "it did not accept the code (" + answer.ErrorCode + ")"
	}
	return err.Error()
}

// refuse records a failed login; the error is for the person.
func (l *Login) refuse(r *http.Request, issuer, text string) error {
	err := apierrors.NewUnauthorized(text)
	if rerr := l.record(r, event{verb: "create", issuer: issuer, code: http.StatusUnauthorized, message: text}); rerr != nil {
		l.cfg.Log.Error("a failed login is not recorded", zap.Error(rerr))
	}
	return err
}
