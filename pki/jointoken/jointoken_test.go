// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package jointoken

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	testPin    = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	testSecret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
)

func valid() Token {
	return Token{
		URLs: []string{"https://hub.example.com:8443"}, Pins: []string{testPin},
		TrustDomain: "9f86d08188.drover.internal", ID: "0123456789abcdef", Secret: testSecret,
	}
}

// encodeRaw makes a token of any body with a good checksum.
func encodeRaw(body string) string {
	text := Prefix + base64.RawURLEncoding.EncodeToString([]byte(body))
	return text + checksum(text)
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Token)
	}{
		{"plain", func(*Token) {}},
		{"bound", func(t *Token) { t.Cluster = "paris-1" }},
		{"two of each", func(t *Token) {
			t.URLs = []string{"https://10.0.0.1:8443", "wss://[2001:db8::1]/drover"}
			t.Pins = append(t.Pins, strings.Repeat("0a", 32))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := valid()
			tt.change(&want)
			text, err := want.Encode()
			if err != nil {
				t.Fatal(err)
			}
			// Tokens come from files, pipes and chats.
			for _, form := range []string{text, text + "\n", "  " + text + "\r\n"} {
				got, err := Parse(form)
				if err != nil {
					t.Fatal(err)
				}
				// go-cmp would use String, which hides the secret.
				if diff := cmp.Diff(fields(want), fields(got)); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func fields(t Token) []string {
	return append(append(append([]string{}, t.URLs...), t.Pins...), t.TrustDomain, t.ID, t.Secret, t.Cluster)
}

func TestNew(t *testing.T) {
	t.Parallel()
	one := New([]string{"https://a"}, []string{testPin}, "fleet.test", "")
	two := New([]string{"https://a"}, []string{testPin}, "fleet.test", "")
	if one.ID == two.ID || one.Secret == two.Secret || one.Secret == "" {
		t.Error("two tokens share id or secret")
	}
	text, err := one.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 300 {
		t.Errorf("a small token has %d characters", len(text))
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	good, err := valid().Encode()
	if err != nil {
		t.Fatal(err)
	}
	flipped := []byte(good)
	flipped[40] ^= 1
	for _, tt := range []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrEmpty},
		{"blank file", " \n\t", ErrEmpty},
		{"something else", "K10abc::server:pw", ErrPrefix},
		{"a path", "/etc/drover/token", ErrPrefix},
		{"upper case prefix", strings.ToUpper(good[:8]) + good[8:], ErrPrefix},
		{"cut prefix", "drover1", ErrPrefix},
		{"later format", "drover2_abcdef", ErrVersion},
		{"no digits", "droverx_abcdef", ErrPrefix},
		{"prefix alone", Prefix, ErrDamaged},
		{"only a checksum", Prefix + "AAAAAA", ErrDamaged},
		{"one character short", good[:len(good)-1], ErrDamaged},
		{"half", good[:len(good)/2], ErrDamaged},
		{"start lost after the prefix", Prefix + good[20:], ErrDamaged},
		{"one bit", string(flipped), ErrDamaged},
		{"line break inside", good[:50] + "\n" + good[50:], ErrDamaged},
		{"two tokens", good + good, ErrDamaged},
		{"too long", Prefix + strings.Repeat("A", MaxLength), ErrTooLong},
		{"padding", encodeRaw("{}")[:10] + "==" + encodeRaw("{}")[10:], ErrDamaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Parse(tt.text); !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
		})
	}
}

func TestFieldErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		field, problem string
		change         func(*Token)
	}{
		{"hub URL", "missing", func(t *Token) { t.URLs = nil }},
		{"hub URL", "https:// or wss://", func(t *Token) { t.URLs = []string{"http://hub"} }},
		{"hub URL", "https:// or wss://", func(t *Token) { t.URLs = []string{"https://ok", "hub:8443"} }},
		{"hub URL", "no host", func(t *Token) { t.URLs = []string{"https://"} }},
		{"hub URL", "no host", func(t *Token) { t.URLs = []string{"https://:8443"} }},
		{"hub URL", "user name", func(t *Token) { t.URLs = []string{"https://u:p@hub"} }},
		{"hub URL", "query", func(t *Token) { t.URLs = []string{"https://hub?a=b"} }},
		{"hub URL", "parsed", func(t *Token) { t.URLs = []string{"https://hub\x00"} }},
		{"pin", "missing", func(t *Token) { t.Pins = nil }},
		{"pin", "64 lower-case", func(t *Token) { t.Pins = []string{testPin, ""} }},
		{"pin", "64 lower-case", func(t *Token) { t.Pins[0] = strings.ToUpper(testPin) }},
		{"pin", "64 lower-case", func(t *Token) { t.Pins[0] = testPin[2:] }},
		{"trust domain", "missing", func(t *Token) { t.TrustDomain = "" }},
		{"trust domain", "DNS name", func(t *Token) { t.TrustDomain = "Fleet" }},
		{"trust domain", "DNS name", func(t *Token) { t.TrustDomain = "a..b" }},
		{"trust domain", "DNS name", func(t *Token) { t.TrustDomain = strings.Repeat("a.", 120) + "a" }},
		{"id", "missing", func(t *Token) { t.ID = "" }},
		{"id", "16 lower-case", func(t *Token) { t.ID = "0123" }},
		{"secret", "missing", func(t *Token) { t.Secret = "" }},
		{"secret", "43 base64url", func(t *Token) { t.Secret = testSecret[:42] }},
		{"cluster name", "DNS label", func(t *Token) { t.Cluster = "a.b" }},
		{"cluster name", "DNS label", func(t *Token) { t.Cluster = strings.Repeat("a", 64) }},
	} {
		t.Run(tt.field+" "+tt.problem, func(t *testing.T) {
			token := valid()
			tt.change(&token)
			_, encodeErr := token.Encode()
			body, err := json.Marshal(wire{token.URLs, token.Pins, token.TrustDomain, token.ID, token.Secret, token.Cluster})
			if err != nil {
				t.Fatal(err)
			}
			_, parseErr := Parse(encodeRaw(string(body)))
			for _, err := range []error{encodeErr, parseErr} {
				var field *FieldError
				if !errors.As(err, &field) || field.Field != tt.field || !strings.Contains(field.Problem, tt.problem) {
					t.Errorf("error is %v, want %s: …%s…", err, tt.field, tt.problem)
				}
				if err != nil && token.Secret != "" && strings.Contains(err.Error(), token.Secret[:20]) {
					t.Errorf("the error shows the secret: %v", err)
				}
			}
		})
	}
	for _, body := range []string{"", "{", `"` + testSecret + `"`, `{"s":{"x":"` + testSecret + `"}}`, "null"} {
		_, err := Parse(encodeRaw(body))
		var field *FieldError
		if !errors.As(err, &field) || strings.Contains(err.Error(), testSecret) {
			t.Errorf("body %s: error is %v", body, err)
		}
	}
}

func TestTooLongToEncode(t *testing.T) {
	t.Parallel()
	token := valid()
	for range 60 {
		token.Pins = append(token.Pins, testPin)
	}
	if _, err := token.Encode(); !errors.Is(err, ErrTooLong) {
		t.Errorf("error is %v", err)
	}
}

func TestUnknownMembersAreIgnored(t *testing.T) {
	t.Parallel()
	body := fmt.Sprintf(`{"u":["https://hub"],"p":[%q],"d":"fleet.test","i":"0123456789abcdef","s":%q,"x":[1]}`, testPin, testSecret)
	if _, err := Parse(encodeRaw(body)); err != nil {
		t.Error(err)
	}
}

func TestRedaction(t *testing.T) {
	t.Parallel()
	token := valid()
	asJSON, err := json.Marshal(map[string]any{"value": token, "pointer": &token})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"%v": fmt.Sprintf("%v", token), "%+v": fmt.Sprintf("%+v", token), "%#v": fmt.Sprintf("%#v", token),
		"%s": fmt.Sprintf("%s", token), "%q": fmt.Sprintf("%q", token), "pointer": fmt.Sprintf("%v %#v", &token, &token),
		"nested": fmt.Sprintf("%+v", struct{ T Token }{token}), "slice": fmt.Sprint([]Token{token}),
		"%x": fmt.Sprintf("%x", token), "%d": fmt.Sprintf("%d", token), "JSON": string(asJSON),
	} {
		if strings.Contains(text, testSecret) || strings.Contains(text, testSecret[:12]) || strings.Contains(text, fmt.Sprintf("%x", testSecret[:8])) {
			t.Errorf("%s shows the secret: %s", name, text)
		}
	}
	if got, want := token.String(), "drover1_0123456789abcdef"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
	for _, id := range []string{"", testSecret} { // a mixed-up field must not leak either
		if got := (Token{ID: id}).String(); strings.Contains(got, testSecret) {
			t.Errorf("String shows %q", got)
		}
	}
}

func TestSecret(t *testing.T) {
	t.Parallel()
	hash := HashSecret(testSecret)
	if len(hash) != 64 || strings.Contains(hash, testSecret) {
		t.Errorf("hash is %q", hash)
	}
	for _, tt := range []struct {
		name, hash, secret string
		want               bool
	}{
		{"same", hash, testSecret, true},
		{"other secret", hash, testSecret[1:] + "A", false},
		{"other case", hash, strings.ToLower(testSecret), false},
		{"no hash", "", testSecret, false},
		{"nothing", "", "", false},
		{"the hash as secret", hash, hash, false},
	} {
		if got := SecretMatches(tt.hash, tt.secret); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	good, err := valid().Encode()
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{good, good[:90], Prefix, "drover2_x", "", encodeRaw("{}"), encodeRaw("null"), encodeRaw(`{"u":[""]}`)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Also try the text as a body, or the checksum would keep the fuzzer out.
		for _, in := range []string{text, encodeRaw(text)} {
			token, err := Parse(in)
			if err != nil {
				continue
			}
			again, err := token.Encode()
			if errors.Is(err, ErrTooLong) {
				continue // JSON escapes can make the second form longer
			}
			if err != nil {
				t.Fatalf("parsed, but does not encode: %v", err)
			}
			back, err := Parse(again)
			if err != nil {
				t.Fatalf("encoded, but does not parse: %v", err)
			}
			if diff := cmp.Diff(fields(token), fields(back)); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
