// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"
)

// ConfigFlag and PrintConfigFlag are the two options that are not themselves
// part of a configuration.
const (
	ConfigFlag      = "config"
	PrintConfigFlag = "print-config"
)

// Structured is the value of a flag that is more than a text or a list of texts
// in a file of options. It must hold no secrets: PrintOptions shows it.
type Structured interface {
	// SetStructured takes what YAML makes of the file's value.
	SetStructured(v any) error
	// Structured returns the value for the file.
	Structured() any
}

// LoadOptions completes the flags that the command line left unset: first from
// the environment (envPrefix + upper-case name with "_" for "-"), then from the
// YAML file, whose keys are the flags' names. An unknown key, or a variable
// with the prefix that names no option, is an error.
func LoadOptions(flags *pflag.FlagSet, file, envPrefix string, environ []string) error {
	fromFile, err := readOptionsFile(file)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	var errs []string
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == PrintConfigFlag {
			return
		}
		env := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		known[env] = true
		if f.Changed {
			delete(fromFile, f.Name)
			return
		}
		if v, ok := lookup(environ, env); ok {
			delete(fromFile, f.Name)
			if err := flags.Set(f.Name, v); err != nil {
				errs = append(errs, fmt.Sprintf("environment variable %s: %v", env, err))
			}
			return
		}
		if v, ok := fromFile[f.Name]; ok && f.Name != ConfigFlag {
			delete(fromFile, f.Name)
			if err := setFromFile(flags, f, v); err != nil {
				errs = append(errs, fmt.Sprintf("%s: %s: %v", file, f.Name, err))
			}
		}
	})
	for _, k := range sortedKeys(fromFile) {
		errs = append(errs, fmt.Sprintf("%s: unknown key %q", file, k))
	}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] {
			errs = append(errs, fmt.Sprintf("environment variable %s: no such option", name))
		}
	}
	if len(errs) > 0 {
		return &Error{
			Err: fmt.Errorf("configuration: %s", strings.Join(errs, "; ")), Code: ExitUsage,
			Hint: "--help lists the options; a key of the file is an option's name without the dashes in front",
		}
	}
	return nil
}

// PrintOptions renders the merged result as the YAML file that would give it.
func PrintOptions(flags *pflag.FlagSet) string {
	out := map[string]any{}
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" || f.Name == ConfigFlag || f.Name == PrintConfigFlag {
			return
		}
		switch v := f.Value.(type) {
		case Structured:
			out[f.Name] = v.Structured()
			return
		case pflag.SliceValue:
			out[f.Name] = v.GetSlice()
			return
		}
		out[f.Name] = f.Value.String()
	})
	text, err := yaml.Marshal(out)
	if err != nil {
		return fmt.Sprintf("# %v\n", err)
	}
	return string(text)
}

func readOptionsFile(file string) (map[string]any, error) {
	if file == "" {
		return map[string]any{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, Hint(fmt.Errorf("read configuration: %w", err), "--%s names the file", ConfigFlag)
	}
	out := map[string]any{}
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		return nil, &Error{
			Err: fmt.Errorf("configuration %s: %w", file, err), Code: ExitUsage,
			Hint: "the file is YAML with one `option: value` a line",
		}
	}
	return out, nil
}

func setFromFile(flags *pflag.FlagSet, f *pflag.Flag, v any) error {
	if s, ok := f.Value.(Structured); ok {
		f.Changed = true
		return s.SetStructured(v)
	}
	list, isList := v.([]any)
	if !isList {
		text, err := optionText(v)
		if err != nil {
			return err
		}
		return flags.Set(f.Name, text)
	}
	s, ok := f.Value.(pflag.SliceValue)
	if !ok {
		return fmt.Errorf("want one value, not a list")
	}
	values := make([]string, len(list))
	for i, e := range list {
		text, err := optionText(e)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
		values[i] = text
	}
	f.Changed = true
	return s.Replace(values)
}

// optionText is one value of the file as it would stand on a command line.
func optionText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64: // YAML is read by way of JSON: every number is one of these
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case nil:
		return "", errors.New("has no value; leave the key out for the default")
	default:
		return "", errors.New("want one value or a list of values")
	}
}

func lookup(environ []string, name string) (string, bool) {
	i := slices.IndexFunc(environ, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	if i < 0 {
		return "", false
	}
	return environ[i][len(name)+1:], true
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
