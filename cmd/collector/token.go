package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/web"
)

// scopes are what a token can be made for here; what else the server knows
// belongs to parts of it that do not exist yet.
var scopes = []string{string(web.ScopeIngest), string(web.ScopeRead), string(web.ScopeCore), string(web.ScopeAdmin)}

// runToken makes a token and writes it once, with the stanza of the
// configuration file that lets the collector know it by its hash.
func runToken(args []string, stdout io.Writer) error {
	var name string
	var want []string
	var asJSON bool
	s := settings.New("collector token", "collector token makes a random token and shows it once; the collector only keeps its hash.")
	s.Group("Flags")
	s.String(&name, "name", "", "`NAME` of whoever uses the token, for logs")
	s.List(&want, "scope", "`SCOPES` the token allows, separated by commas: "+strings.Join(scopes, ", "))
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if name == "" || len(want) == 0 {
		return settings.Errorf("a token needs a name and a scope, as in: collector token -name build-host -scope ingest")
	}
	for _, w := range want {
		if !slices.Contains(scopes, w) {
			return settings.Errorf("unknown scope %q; known are %s", w, strings.Join(scopes, ", "))
		}
	}
	secret := newSecret()
	t := token{Name: name, Hash: web.HashToken(secret), Scopes: want}
	if asJSON {
		return json.NewEncoder(stdout).Encode(struct {
			Token string `json:"token"`
			token
		}{secret, t})
	}
	stanza, err := yaml.Marshal(struct {
		Tokens []token `yaml:"tokens"`
	}{[]token{t}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "# The token, shown only this once: %s\n# For the collector's configuration file (add to the list if there is one):\n%s", secret, stanza)
	return err
}

// newSecret returns 32 random bytes as text, with a prefix by which scanners
// of leaked secrets can know it.
func newSecret() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails
	return "inq_" + base64.RawURLEncoding.EncodeToString(raw)
}
