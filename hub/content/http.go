// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/drover-io/drover/shared/apis/fleet"
	"github.com/drover-io/drover/shared/archive"
	"github.com/drover-io/drover/shared/wire"
)

const (
	// maxUploads are read at the same time: each is held in memory.
	maxUploads    = 2
	uploadTimeout = 10 * time.Minute
	uploadWait    = 20 * time.Second // for one of maxUploads

	maxDownloads    = 256
	maxUnpacked     = 4                // downloads that did not ask for zstd
	downloadTimeout = 30 * time.Minute // of one request; the next one resumes
	retryAfter      = 5                // seconds
)

// Auditor records what people do.
type Auditor interface {
	Record(ctx context.Context, ev *auditv1.Event) error
}

// Upload serves PUT wire.PathContent to people who may create bundles: the body
// is a bundle, or an archive if Content-Type says so, as it is or with
// Content-Encoding zstd; the answer an Info.
func (s *Store) Upload(authn authenticator.Request, authz authorizer.UnconditionalAuthorizer, auditor Auditor) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		received := metav1.NowMicro()
		w.Header().Set("Cache-Control", "no-store")
		who, info, err := s.upload(w, r, authn, authz)
		status := metav1.Status{Status: metav1.StatusSuccess, Code: http.StatusOK}
		if info.Stored {
			status.Code = http.StatusCreated
		}
		if err != nil {
			status = s.statusOf(err)
		}
		if err := auditor.Record(r.Context(), eventOf(r, who, info, status, received)); err != nil {
			s.cfg.Log.Error("an upload is not recorded", zap.Error(err))
		}
		var body any = info
		if err != nil {
			status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
			body = status
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(status.Code))
		_ = json.NewEncoder(w).Encode(body) // a client that went away needs no answer
	})
}

func bundles() schema.GroupResource {
	return schema.GroupResource{Group: fleet.Group, Resource: "bundles"}
}

func (s *Store) upload(w http.ResponseWriter, r *http.Request, authn authenticator.Request, authz authorizer.UnconditionalAuthorizer) (user.Info, Info, error) {
	who, ok, err := authn.AuthenticateRequest(r)
	if err != nil || !ok || who == nil || who.User == nil {
		return nil, Info{}, apierrors.NewUnauthorized("Unauthorized: the request carries no credentials that the hub knows")
	}
	decision, _, err := authz.Authorize(r.Context(), authorizer.AttributesRecord{
		User: who.User, Verb: "create", APIGroup: fleet.Group, APIVersion: fleet.Version, Resource: "bundles", ResourceRequest: true,
	})
	if err != nil || decision != authorizer.DecisionAllow {
		return who.User, Info{}, apierrors.NewForbidden(bundles(), "", fmt.Errorf("user %q cannot create bundles", who.User.GetName()))
	}
	data, err := s.readBody(w, r)
	if err != nil {
		return who.User, Info{}, err
	}
	defer func() { <-s.uploads }()
	var info Info
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == archive.MediaType {
		info, err = s.PutArchive(r.Context(), data)
	} else {
		info, err = s.Put(r.Context(), data)
	}
	return who.User, info, err
}

// readBody reads a bundle, and holds one of the uploads when it succeeds.
func (s *Store) readBody(w http.ResponseWriter, r *http.Request) (data []byte, err error) {
	if r.ContentLength > MaxBundle {
		return nil, ErrTooLarge
	}
	wait := time.NewTimer(uploadWait)
	defer wait.Stop()
	select {
	case s.uploads <- struct{}{}:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-wait.C:
		return nil, apierrors.NewTooManyRequests("the hub takes other bundles at the moment", retryAfter)
	}
	defer func() {
		if err != nil {
			<-s.uploads
		}
	}()
	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body := http.MaxBytesReader(w, r.Body, MaxBundle+1)
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		data, err = readAll(body)
	case "zstd":
		data, err = decompress(body)
	default:
		return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "create", bundles(), "",
			fmt.Sprintf("Content-Encoding %.40q: want none or zstd", encoding), 0, true)
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return nil, ErrTooLarge
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the bundle cannot be read: %v", err))
	}
	return data, err
}

func (s *Store) statusOf(err error) metav1.Status {
	var status apierrors.APIStatus
	var line *LineError
	switch {
	case errors.As(err, &status):
		return status.Status()
	case errors.Is(err, ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error()).ErrStatus
	case errors.Is(err, ErrFull):
		return apierrors.NewGenericServerResponse(http.StatusInsufficientStorage, "create", bundles(), "", err.Error(), 0, true).ErrStatus
	case errors.As(err, &line):
		return apierrors.NewBadRequest("the bundle is not valid: " + err.Error()).ErrStatus
	}
	s.cfg.Log.Error("storing a bundle failed", zap.Error(err))
	return apierrors.NewInternalError(errors.New("the bundle could not be stored; the hub's log has the details")).ErrStatus
}

func eventOf(r *http.Request, who user.Info, info Info, status metav1.Status, received metav1.MicroTime) *auditv1.Event {
	ev := &auditv1.Event{
		Verb: "create", RequestURI: r.URL.RequestURI(), UserAgent: r.UserAgent(),
		User: authenticationv1.UserInfo{Username: user.Anonymous, Groups: []string{user.AllUnauthenticated}},
		ObjectRef: &auditv1.ObjectReference{
			Resource: "bundles", APIGroup: fleet.Group, APIVersion: fleet.Version, Name: info.Digest,
		},
		RequestReceivedTimestamp: received, ResponseStatus: &status,
	}
	if who != nil {
		ev.User = authenticationv1.UserInfo{Username: who.GetName(), Groups: who.GetGroups()}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		ev.SourceIPs = []string{host}
	}
	return ev
}

// Agents is what the agents' side asks of others.
type Agents struct {
	// Identify returns the cluster of an agent's request; what it returns as an
	// error it has also answered.
	Identify func(w http.ResponseWriter, r *http.Request) (cluster string, err error)
	// May says whether one of the cluster's works names the bundle.
	May func(cluster, digest string) bool
}

// Download serves GET wire.PathContent/{digest} to agents, whole or in ranges,
// with Accept-Encoding zstd as it is stored.
func (s *Store) Download(agents Agents) http.Handler {
	all, plain := make(chan struct{}, maxDownloads), make(chan struct{}, maxUnpacked)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cluster, err := agents.Identify(w, r)
		if err != nil {
			return
		}
		digest := strings.TrimPrefix(r.URL.Path, wire.PathContent+"/")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			refuse(w, http.StatusMethodNotAllowed, wire.ReasonBadRequest, "bundles are for reading")
			return
		case !digestRE.MatchString(digest) || !agents.May(cluster, digest):
			// One text for both: which bundles others have is not this agent's business.
			refuse(w, http.StatusNotFound, wire.ReasonBadRequest, "no work of this cluster names that bundle")
			return
		}
		packed := acceptsZstd(r.Header.Get("Accept-Encoding"))
		slots := []chan struct{}{all}
		if !packed {
			slots = append(slots, plain)
		}
		for _, slot := range slots {
			select {
			case slot <- struct{}{}:
				defer func() { <-slot }()
			default:
				w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
				refuse(w, http.StatusServiceUnavailable, wire.ReasonBusy, "the hub serves many agents at the moment")
				return
			}
		}
		s.serve(w, r, digest, packed)
	})
}

func (s *Store) serve(w http.ResponseWriter, r *http.Request, digest string, packed bool) {
	data, err := s.Packed(r.Context(), digest)
	etag := `"` + digest + `"`
	if err == nil && packed {
		etag = `"` + digest + `+zstd"`
		w.Header().Set("Content-Encoding", "zstd")
	} else if err == nil {
		data, err = unpack(data)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		w.Header().Del("Content-Encoding")
		refuse(w, http.StatusNotFound, wire.ReasonBadRequest, "the bundle is not on this hub any more: push it again")
		return
	case err != nil:
		s.cfg.Log.Error("reading a bundle failed", zap.String("digest", digest), zap.Error(err))
		refuse(w, http.StatusInternalServerError, wire.ReasonInternal, "internal error; the hub's log has the details")
		return
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.cfg.Log.Debug("no deadline for a download", zap.Error(err))
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("ETag", etag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func acceptsZstd(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		q := strings.ReplaceAll(params, " ", "")
		if strings.EqualFold(strings.TrimSpace(coding), "zstd") && q != "q=0" && !strings.HasPrefix(q, "q=0.0") {
			return true
		}
	}
	return false
}

func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	text, err := json.Marshal(wire.Refusal{Reason: reason, Message: message})
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(text))
	}
	_ = err // the client may be gone
}
