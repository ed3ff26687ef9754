// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"mime"
	"net/http"
	"sort"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// accept is the form of answer that a client and the API agreed on.
type accept struct {
	yaml bool
	// as is "", "Table", "PartialObjectMetadata" or "PartialObjectMetadataList",
	// version the version of it.
	as, group, version string
}

func (a accept) contentType() string {
	if a.yaml {
		return "application/yaml"
	}
	return "application/json"
}

// clause is one part of an Accept header.
type clause struct {
	media  string
	params map[string]string
	q      float64
}

// clauses splits an Accept header, the most wanted first.
func clauses(r *http.Request) []clause {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if strings.TrimSpace(header) == "" {
		return []clause{{media: "*/*", q: 1}}
	}
	var out []clause
	for part := range strings.SplitSeq(header, ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			// Protobuf OpenAPI types of old clients hold an @, which is no token.
			media, _, _ = strings.Cut(strings.TrimSpace(strings.ToLower(part)), ";")
			params = nil
		}
		c := clause{media: media, params: params, q: 1}
		if q, ok := params["q"]; ok {
			f, err := strconv.ParseFloat(q, 64)
			if err != nil {
				continue
			}
			c.q = f
		}
		if c.q > 0 && c.media != "" {
			out = append(out, c)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].q > out[j].q })
	return out
}

// negotiate picks the first clause that the API can serve. Forms are the values
// of the parameter "as" that this answer can take.
func (c *call) negotiate(forms ...string) error {
	for _, cl := range clauses(c.r) {
		a := accept{as: cl.params["as"], group: cl.params["g"], version: cl.params["v"]}
		switch cl.media {
		case "application/json", "application/*", "*/*":
		case "application/yaml":
			a.yaml = true
		default:
			continue
		}
		if a.as == "" {
			a.group, a.version = "", ""
		} else if !served(a, forms) {
			continue
		}
		c.accept = a
		return nil
	}
	return notAcceptable("application/json", "application/yaml")
}

func served(a accept, forms []string) bool {
	if a.group != "meta.k8s.io" || (a.version != "v1" && a.version != "v1beta1") {
		return false
	}
	for _, f := range forms {
		if f == a.as {
			return true
		}
	}
	return false
}

// negotiateMedia picks one of the media types.
func (c *call) negotiateMedia(offers []string) (string, error) {
	for _, cl := range clauses(c.r) {
		for _, offer := range offers {
			if cl.media == offer || cl.media == "*/*" || cl.media == "application/*" {
				return offer, nil
			}
		}
	}
	return "", notAcceptable(offers...)
}

func notAcceptable(offers ...string) error {
	return statusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: "+strings.Join(offers, ", "))
}
