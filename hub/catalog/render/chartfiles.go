// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/gobwas/glob"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/chart"
)

// chartFiles are those of a chart that are neither templates nor values, as Helm's
// templates see them: .Files.
type chartFiles map[string][]byte

func filesOf(c *chart.Chart) chartFiles {
	out := chartFiles{}
	for _, f := range c.Files {
		out[f.Name] = f.Data
	}
	return out
}

// GetBytes returns a file, or nothing.
func (f chartFiles) GetBytes(name string) []byte {
	if data, ok := f[name]; ok {
		return data
	}
	return []byte{}
}

// Get returns a file as text.
func (f chartFiles) Get(name string) string { return string(f.GetBytes(name)) }

// Glob returns the files that match.
func (f chartFiles) Glob(pattern string) (chartFiles, error) {
	if len(pattern) > 256 {
		return nil, errors.New("a pattern of more than 256 bytes")
	}
	g, err := glob.Compile(pattern, '/')
	if err != nil {
		g = glob.MustCompile("**")
	}
	out := chartFiles{}
	for name, data := range f {
		if g.Match(name) {
			out[name] = data
		}
	}
	return out, nil
}

// AsConfig returns the files as data of a ConfigMap.
func (f chartFiles) AsConfig() (string, error) {
	return f.as(func(data []byte) string { return string(data) })
}

// AsSecrets returns the files as data of a Secret.
func (f chartFiles) AsSecrets() (string, error) { return f.as(base64.StdEncoding.EncodeToString) }

func (f chartFiles) as(encode func([]byte) string) (string, error) {
	if f == nil {
		return "", nil
	}
	total, m := 0, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		total += len(f[name])
		if err := sized(total); err != nil {
			return "", err
		}
		m[path.Base(name)] = encode(f[name])
	}
	return toYAML(m), nil
}

// Lines returns a file by lines.
func (f chartFiles) Lines(name string) []string {
	s := strings.TrimSuffix(f.Get(name), "\n")
	if s == "" && len(f.GetBytes(name)) < 2 {
		return []string{}
	}
	return strings.Split(s, "\n")
}

// validateCharts holds the values to the values.schema.json of a chart and its
// subcharts. Schemas can refer to nothing outside themselves.
func validateCharts(c *chart.Chart, values map[string]any, at string) error {
	name := at + c.Name()
	if c.Schema != nil {
		if err := validateSchema(c.Schema, values); err != nil {
			return &Error{Where: "values", Text: fmt.Sprintf("the schema of chart %s: %v", name, err), Err: err}
		}
	}
	for _, sub := range c.Dependencies() {
		switch v := values[sub.Name()].(type) {
		case nil:
		case map[string]any:
			if err := validateCharts(sub, v, name+"/"); err != nil {
				return err
			}
		default:
			return &Error{Where: "values." + sub.Name(), Text: fmt.Sprintf("want an object for the subchart, it is %T", v)}
		}
	}
	return nil
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema may not refer to anything outside itself", url)
}

const schemaURL = "urn:values.schema.json"

func validateSchema(schema []byte, values map[string]any) error {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return fmt.Errorf("values.schema.json: %w", err)
	}
	compiled, err := c.Compile(schemaURL)
	if err != nil {
		return fmt.Errorf("values.schema.json: %s", strings.ReplaceAll(err.Error(), schemaURL, ""))
	}
	err = compiled.Validate(values)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	var problems []string
	leaves(invalid, &problems)
	return errors.New(strings.Join(problems, "; "))
}

// leaves are the causes that have none themselves.
func leaves(e *jsonschema.ValidationError, out *[]string) {
	for _, cause := range e.Causes {
		leaves(cause, out)
	}
	if len(e.Causes) > 0 || len(*out) >= 10 {
		return
	}
	// "at '/image/tag': got number, want string" becomes "image.tag: got ..."
	line := e.Error()
	if _, rest, ok := strings.Cut(line, "\n- at "); ok {
		line = rest
	} else if _, rest, ok := strings.Cut(line, "\n"); ok {
		line = strings.TrimSpace(rest)
	}
	line = strings.TrimPrefix(line, "at ")
	at, what, _ := strings.Cut(strings.ReplaceAll(line, "'", ""), ": ")
	if at = strings.ReplaceAll(strings.Trim(at, "/"), "/", "."); at != "" {
		what = at + ": " + what
	}
	*out = append(*out, what)
}
