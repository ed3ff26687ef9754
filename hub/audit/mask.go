// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	masked = "(masked)"
	// maxObject is the largest request object in bytes that is recorded.
	maxObject = 64 << 10
	// maxText bounds texts that a client chose.
	maxText = 2 << 10
)

// secretWordsLine holds parts of the names of fields whose values are never recorded.
const secretWordsLine = "secret token password passwd passphrase credential apikey privatekey authorization bearer kubeconfig cookie"

func secretName(name string) bool {
	name = strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(strings.ToLower(name))
	for word := range strings.FieldsSeq(secretWordsLine) {
		if strings.Contains(name, word) {
			return true
		}
	}
	// kubectl keeps a copy of the whole object here
	return strings.Contains(name, "lastappliedconfiguration")
}

// maskEvent leaves of the request's object what the level allows, without secrets.
func maskEvent(ev *auditv1.Event) {
	object := ev.RequestObject
	ev.RequestObject = nil
	if ev.Level == auditv1.LevelRequest && object != nil {
		data, err := maskObject(object.Raw, object.ContentType)
		if err == nil {
			ev.RequestObject = &runtime.Unknown{Raw: data, ContentType: runtime.ContentTypeJSON}
		} else {
			if ev.Annotations == nil {
				ev.Annotations = map[string]string{}
			}
			ev.Annotations[AnnotationMasked] = err.Error()
		}
	}
	ev.ResponseStatus = maskStatus(ev.ResponseStatus)
}

// maskStatus takes out the messages that quote what the client sent.
func maskStatus(s *metav1.Status) *metav1.Status {
	if s == nil {
		return nil
	}
	out := &metav1.Status{Status: s.Status, Code: s.Code, Reason: s.Reason}
	if s.Code != http.StatusBadRequest && s.Code != http.StatusUnprocessableEntity {
		out.Message = clip(s.Message, maxText)
		return out
	}
	if s.Details != nil {
		out.Details = &metav1.StatusDetails{}
		for _, c := range s.Details.Causes[:min(len(s.Details.Causes), 16)] {
			out.Details.Causes = append(out.Details.Causes, metav1.StatusCause{Type: c.Type, Field: clip(c.Field, 256)})
		}
	}
	return out
}

var (
	errObjectLarge  = errors.New("too large")
	errObjectFormat = errors.New("not JSON or YAML")
)

// maskObject returns a request's body as JSON without secrets.
func maskObject(data []byte, contentType string) ([]byte, error) {
	if len(data) > maxObject {
		return nil, errObjectLarge
	}
	if strings.Contains(contentType, "yaml") {
		converted, err := yaml.YAMLToJSON(data)
		if err != nil {
			return nil, errObjectFormat
		}
		data = converted
	}
	var v any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &v); err != nil {
		return nil, errObjectFormat
	}
	out, err := json.Marshal(maskValue(v))
	if err != nil {
		return nil, errObjectFormat
	}
	if len(out) > maxObject {
		return nil, errObjectLarge
	}
	return out, nil
}

// maskValue replaces, at any depth, the values of fields with secret names, the
// content of Secrets, and values whose neighbour says that they are secret: the
// "value" of {name: PASSWORD} and of a JSON patch's {path: /spec/token}.
func maskValue(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = maskValue(v[i])
		}
	case map[string]any:
		kind, _ := v["kind"].(string)
		name, _ := v["name"].(string)
		path, _ := v["path"].(string)
		for k, field := range v {
			switch {
			case secretName(k),
				k == "value" && (secretName(name) || secretName(path) || dataPath(path)),
				kind == "Secret" && (k == "data" || k == "stringData"):
				v[k] = masked
			default:
				v[k] = maskValue(field)
			}
		}
	}
	return v
}

// dataPath says whether a JSON pointer goes below data, perhaps a Secret's.
func dataPath(path string) bool {
	return strings.Contains(path+"/", "/data/") || strings.Contains(path+"/", "/stringData/")
}

// maskURI masks parameters with secret names.
func maskURI(uri string) string {
	if path, query, ok := strings.Cut(uri, "?"); ok {
		parts := strings.Split(query, "&")
		for i, p := range parts {
			key, _, _ := strings.Cut(p, "=")
			if plain, err := url.QueryUnescape(key); err != nil || secretName(plain) {
				parts[i] = key + "=" + url.QueryEscape(masked)
			}
		}
		uri = path + "?" + strings.Join(parts, "&")
	}
	return clip(uri, maxText)
}

// clip shortens a text to n bytes; what is no longer UTF-8 is repaired.
func clip(text string, n int) string {
	if len(text) > n {
		text = text[:n] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}
