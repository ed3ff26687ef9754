// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/hub/auth"
)

// limiter bounds requests in flight.
type limiter chan struct{}

func newLimiter(n, fallback int) limiter {
	if n <= 0 {
		n = fallback
	}
	return make(limiter, n)
}

// admitLoad takes a place among the requests in flight; release gives it back.
func (c *call) admitLoad() (release func(), err error) {
	l := c.writes
	switch {
	case c.info.Verb == "watch" && c.info.IsResourceRequest:
		l = c.watches
	case c.r.Method == http.MethodGet || c.r.Method == http.MethodHead:
		l = c.reads
	}
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	default:
		return nil, apierrors.NewTooManyRequests("too many requests in flight, try again", 1)
	}
}

// requestTimeout bounds any request that is not a watch; a slow reader may take
// twice as long to fetch the answer.
const requestTimeout = 60 * time.Second

// bound limits the time of a request; the function returned takes the limits
// away. Timers stand for the deadlines of the connection, which are set only when
// they are over: with HTTP/2 each change of one wakes the connection.
func (c *call) bound() func() {
	if c.info.Verb == "watch" {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), requestTimeout)
	c.r = c.r.WithContext(ctx)
	control := http.NewResponseController(c.w)
	past := time.Unix(1, 0)
	// not every connection has deadlines, those of tests for example
	read := time.AfterFunc(requestTimeout, func() { _ = control.SetReadDeadline(past) })
	write := time.AfterFunc(2*requestTimeout, func() { _ = control.SetWriteDeadline(past) })
	return func() {
		read.Stop()
		write.Stop()
		cancel()
	}
}

// tooMany is 429; wait is when there is room again.
func tooMany(text string, wait time.Duration) error {
	return apierrors.NewTooManyRequests(text+", try again later", max(1, int(math.Ceil(wait.Seconds()))))
}

// identify finds out who asks, and whether they ask too often.
func (c *call) identify() error {
	from := source(c.r.RemoteAddr)
	withCertificate := c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0
	if wait, empty := c.perAddress.empty(from); empty && !withCertificate {
		// checking more secrets from there would help who guesses them
		return tooMany("too many requests without a login that works, from this address", wait)
	}
	err := c.recognise()
	if apierrors.IsUnauthorized(err) {
		if wait, ok := c.perAddress.take(from); !ok {
			return tooMany("too many requests without a login that works, from this address", wait)
		}
	}
	if c.who == nil {
		return err
	}
	by, _ := auth.Original(c.who.User)
	if wait, ok := c.perUser.take(by.GetName()); !ok {
		return tooMany(fmt.Sprintf("user %q sends too many requests", by.GetName()), wait)
	}
	return err
}

// recognise finds out who asks.
func (c *call) recognise() error {
	who, ok, err := c.authenticator.AuthenticateRequest(c.r)
	var impersonation *auth.ImpersonationError
	switch {
	case errors.As(err, &impersonation):
		c.who = &authenticator.Response{User: impersonation.By}
		return impersonation.Err
	case err != nil:
		// about what the client showed itself, so it may know
		c.log.Debug("authentication failed", zap.String("remote", c.r.RemoteAddr), zap.Error(err))
		return apierrors.NewUnauthorized("Unauthorized: " + err.Error())
	case !ok || who == nil || who.User == nil:
		return apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows")
	}
	c.who = who
	if _, acts := auth.Original(who.User); acts {
		return nil
	}
	for name := range c.r.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			return c.forbidden(c.info.Verb, "impersonation is not supported") // by this authenticator
		}
	}
	return nil
}

// authorize asks whether the user may. Lists and watches are allowed to who may
// see a part of them.
func (c *call) authorize() (err error) {
	if c.lists() {
		c.view, err = c.look(c.info.Verb)
		return err
	}
	c.view = view{all: true, changed: context.Background()}
	return c.allowed(c.info.Verb, c.info.Name)
}

// allowed asks for the request with another verb and name.
func (c *call) allowed(verb, objectName string) error {
	attrs := authorizer.AttributesRecord{
		User: c.who.User, Verb: verb, Path: c.info.Path, ResourceRequest: c.info.IsResourceRequest,
		Namespace: c.info.Namespace, APIGroup: c.info.APIGroup, APIVersion: c.info.APIVersion,
		Resource: c.info.Resource, Subresource: c.info.Subresource, Name: objectName,
	}
	if c.info.LabelSelector != "" {
		sel, err := labels.Parse(c.info.LabelSelector)
		if err == nil {
			attrs.LabelSelectorRequirements, _ = sel.Requirements()
		}
		attrs.LabelSelectorParsingErr = err
	}
	if c.info.FieldSelector != "" {
		sel, err := fields.ParseSelector(c.info.FieldSelector)
		if err == nil {
			attrs.FieldSelectorRequirements = sel.Requirements()
		}
		attrs.FieldSelectorParsingErr = err
	}
	decision, reason, err := c.authorizer.Authorize(c.r.Context(), attrs)
	if err != nil {
		return fmt.Errorf("authorize %s %s: %w", verb, c.info.Path, err)
	}
	if decision == authorizer.DecisionAllow {
		return nil
	}
	return c.forbidden(verb, reason)
}

// forbidden is 403 with Kubernetes' text.
func (c *call) forbidden(verb, reason string) error {
	info, name := c.info, c.who.User.GetName()
	if !info.IsResourceRequest {
		return apierrors.NewForbidden(schema.GroupResource{}, "", fmt.Errorf("User %q cannot %s path %q%s", name, verb, info.Path, because(reason)))
	}
	resource := info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	scope := "at the cluster scope"
	if info.Namespace != "" {
		scope = fmt.Sprintf("in the namespace %q", info.Namespace)
	}
	return apierrors.NewForbidden(c.groupResource(), info.Name,
		fmt.Errorf("User %q cannot %s resource %q in API group %q %s%s", name, verb, resource, info.APIGroup, scope, because(reason)))
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (c *call) groupResource() schema.GroupResource {
	if c.info == nil {
		return schema.GroupResource{}
	}
	return schema.GroupResource{Group: c.info.APIGroup, Resource: c.info.Resource}
}

func (c *call) user() user.Info { return c.who.User }

// fieldManager is the name under which field ownership is recorded: the one
// given, or the program of the user agent.
func (c *call) fieldManager(given string) string {
	if given != "" {
		return given
	}
	agent, _, _ := strings.Cut(c.r.UserAgent(), "/")
	agent = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, agent)
	if len(agent) > 128 {
		agent = agent[:128]
	}
	if agent == "" {
		return "unknown"
	}
	return agent
}

// warn adds a line for the person at the other end.
func (c *call) warn(text string) {
	const most = 64
	if len(c.warnings) < most && !slices.Contains(c.warnings, text) {
		c.warnings = append(c.warnings, text)
	}
}
