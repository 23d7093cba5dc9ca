package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/web"
)

// tokens are one token per scope, named and spelled like it.
func tokens() []web.Token {
	var out []web.Token
	for _, s := range []web.Scope{web.ScopeIngest, web.ScopeRead, web.ScopeCore, web.ScopeAdmin} {
		out = append(out, web.Token{Name: string(s), Hash: web.HashToken("secret-" + string(s)), Scopes: []web.Scope{s}})
	}
	return out
}

// Every route is open to whoever has its scope, and to nobody else.
func TestAuthMatrix(t *testing.T) {
	w := newWorld(t, web.Options{Tokens: tokens()})
	for _, rt := range w.server.Routes() {
		path := strings.NewReplacer(":id", "a1", ":command", "c1", ":version", "v", ":file", "f", "pprof/:name", "pprof/heap", ":name", "service").Replace(rt.Path)
		if strings.HasSuffix(path, "/commands") {
			path += "?wait=1ms"
		}
		for _, token := range []string{"", "wrong", "secret-ingest", "secret-read", "secret-core", "secret-admin"} {
			var headers []string
			if token != "" {
				headers = append(headers, "Authorization: Bearer "+token)
			}
			a := w.do(rt.Method, path, nil, headers...)
			want := "allowed"
			scope := strings.TrimPrefix(token, "secret-")
			switch {
			case token == "wrong":
				want = "unauthorized"
			case rt.Scope == web.ScopeNone || scope == string(rt.Scope) || scope == "admin":
			case token == "":
				want = "unauthorized"
			default:
				want = "forbidden"
			}
			got := "allowed"
			switch a.StatusCode {
			case http.StatusUnauthorized:
				got = "unauthorized"
			case http.StatusForbidden:
				got = "forbidden"
			}
			// A login without a token is refused as such.
			if rt.Path == "/login" && rt.Method == "POST" && token != "wrong" {
				want = "unauthorized"
			}
			if got != want {
				t.Errorf("%s %s (scope %q) with token %q: %s (%s), want %s", rt.Method, path, rt.Scope, token, got, a.Status, want)
			}
		}
	}
}

func TestAuthHeader(t *testing.T) {
	w := newWorld(t, web.Options{Tokens: tokens()})
	basic := func(user, password string) string {
		r := &http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return "Authorization: " + r.Header.Get("Authorization")
	}
	for _, tt := range []struct {
		name, header string
		status       int
	}{
		{"bearer", "Authorization: Bearer secret-read", 200},
		{"lower case scheme", "Authorization: bearer secret-read", 200},
		{"password", basic("x", "secret-read"), 200},
		{"user", basic("secret-read", ""), 200},
		{"wrong password", basic("x", "secret"), 401},
		{"digest", "Authorization: Digest x", 401},
		{"broken basic", "Authorization: Basic !!", 401},
		{"hash instead of token", "Authorization: Bearer " + web.HashToken("secret-read"), 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := w.get("/api/v1/agents", tt.header)
			if a.StatusCode != tt.status {
				t.Errorf("%s: %s", a.Status, a.body)
			}
			if tt.status == 401 && a.Header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
	// The collector's own profiles too: a proxy on the machine comes from there as well.
	if a := w.get("/debug/pprof/"); a.StatusCode != 401 {
		t.Errorf("pprof from loopback without a token: %s", a.Status)
	}
}

func (w *world) postForm(path string, form url.Values, headers ...string) answer {
	w.t.Helper()
	return w.do("POST", path, strings.NewReader(form.Encode()), append(headers, "Content-Type: application/x-www-form-urlencoded")...)
}

func TestLogin(t *testing.T) {
	w := newWorld(t, web.Options{Tokens: tokens()})
	a := w.get("/explore?type=cpu", "Accept: text/html")
	if want := "/login?next=%2Fexplore%3Ftype%3Dcpu"; a.StatusCode != 303 || a.Header.Get("Location") != want {
		t.Errorf("a browser without a session is sent to %q (%s), want %q", a.Header.Get("Location"), a.Status, want)
	}
	// Who comes by a link of another site has its cookie held back: it is let
	// come again from here first.
	a = w.get("/explore", "Accept: text/html", "Sec-Fetch-Site: cross-site")
	if a.StatusCode != 200 || a.Header.Get("Refresh") != "0;url=/explore" {
		t.Errorf("from another site: %s, Refresh %q", a.Status, a.Header.Get("Refresh"))
	}
	if a := w.postForm("/login", url.Values{"token": {"wrong"}}); a.StatusCode != 401 || len(a.Cookies()) != 0 {
		t.Errorf("login with a wrong token: %s, cookies %v", a.Status, a.Cookies())
	}
	a = w.postForm("/login", url.Values{"token": {" secret-read\n"}, "next": {"/targets"}})
	if a.StatusCode != 303 || a.Header.Get("Location") != "/targets" || len(a.Cookies()) != 1 {
		t.Fatalf("login: %s to %q, cookies %v", a.Status, a.Header.Get("Location"), a.Cookies())
	}
	c := a.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || strings.Contains(c.Value, "secret") || c.MaxAge <= 0 {
		t.Errorf("cookie = %+v", c)
	}
	cookie := "Cookie: " + c.Name + "=" + c.Value
	if a := w.get("/api/v1/agents", cookie); a.StatusCode != 200 {
		t.Errorf("with the cookie: %s", a.Status)
	}
	if a := w.do("POST", "/api/v1/profiles", nil, cookie); a.StatusCode != 403 {
		t.Errorf("the session of a read token may push: %s", a.Status)
	}
	if a := w.get("/api/v1/agents", cookie+"x"); a.StatusCode != 401 {
		t.Errorf("with another cookie: %s", a.Status)
	}
	if a := w.postForm("/logout", nil, cookie); a.StatusCode != 303 || a.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logout: %s, %v", a.Status, a.Cookies())
	}
	if a := w.get("/api/v1/agents", cookie); a.StatusCode != 401 {
		t.Errorf("after logout: %s", a.Status)
	}
	for _, next := range []string{"//evil.example/", "https://evil.example/", `/\evil.example`, ""} {
		a := w.postForm("/login", url.Values{"token": {"secret-read"}, "next": {next}})
		if got := a.Header.Get("Location"); got != "/" {
			t.Errorf("login with next=%q goes to %q", next, got)
		}
	}
	if log := w.log.String(); !strings.Contains(log, "audit") || !strings.Contains(log, "login refused") || strings.Contains(log, "secret") {
		t.Errorf("audit log: %s", log)
	}
}

func TestSessionExpires(t *testing.T) {
	now := time.Now()
	w := newWorld(t, web.Options{Tokens: tokens(), Now: func() time.Time { return now }})
	c := w.postForm("/login", url.Values{"token": {"secret-read"}}).Cookies()[0]
	cookie := "Cookie: " + c.Name + "=" + c.Value
	now = now.Add(11 * time.Hour)
	if a := w.get("/api/v1/agents", cookie); a.StatusCode != 200 {
		t.Errorf("after 11 h: %s", a.Status)
	}
	now = now.Add(2 * time.Hour)
	if a := w.get("/api/v1/agents", cookie); a.StatusCode != 401 {
		t.Errorf("after 13 h: %s", a.Status)
	}
}

func TestHostAndOrigin(t *testing.T) {
	w := newWorld(t, web.Options{Listen: "box:7070", Hosts: []string{"Inquest.example"}})
	for host, want := range map[string]int{
		"127.0.0.1:7070": 200, "[::1]:7070": 200, "10.0.0.1": 200, "localhost:1": 200, "LOCALHOST": 200, "box": 200,
		"inquest.example:7070": 200, "inquest.example.": 200, "evil.example": 403, "localhost.evil.example": 403, "xinquest.example": 403,
	} {
		a := w.get("/api/v1/version", "Host: "+host)
		if a.StatusCode != want {
			t.Errorf("Host %s: %s, want %d", host, a.Status, want)
		}
		if want == 403 {
			wantError(t, a, 403, "forbidden", "add it to hosts")
		}
	}
	for _, tt := range []struct {
		method, headers string
		want            int
	}{
		{"POST", "", 400}, // no service
		{"POST", "Origin: https://evil.example", 403},
		{"POST", "Origin: null", 403},
		{"POST", "Sec-Fetch-Site: cross-site", 403},
		{"POST", "Sec-Fetch-Site: same-site", 403},
		{"POST", "Sec-Fetch-Site: same-origin", 400},
		{"GET", "Sec-Fetch-Site: cross-site", 200},
	} {
		var headers []string
		if tt.headers != "" {
			headers = append(headers, tt.headers)
		}
		if a := w.do(tt.method, "/api/v1/profiles", nil, headers...); a.StatusCode != tt.want {
			t.Errorf("%s with %q: %s, want %d", tt.method, tt.headers, a.Status, tt.want)
		}
	}
	// Open mode: a token in the header does not lift the check.
	if a := w.get("/api/v1/version", "Host: evil.example", "Authorization: Bearer x"); a.StatusCode != 403 {
		t.Errorf("foreign host with a token, none configured: %s", a.Status)
	}
	guarded := newWorld(t, web.Options{Tokens: tokens()})
	if a := guarded.get("/api/v1/agents", "Host: collector.corp", "Authorization: Bearer secret-read"); a.StatusCode != 200 {
		t.Errorf("foreign host with a good token: %s", a.Status)
	}
	if a := guarded.get("/login", "Host: collector.corp"); a.StatusCode != 403 {
		t.Errorf("foreign host without a token: %s", a.Status)
	}
}

func TestCheckExposure(t *testing.T) {
	for _, tt := range []struct {
		listen   string
		tokens   int
		insecure bool
		ok       bool
	}{
		{"127.0.0.1:7070", 0, false, true},
		{"127.8.8.8:7070", 0, false, true},
		{"[::1]:7070", 0, false, true},
		{"localhost:7070", 0, false, true},
		{":7070", 0, false, false},
		{"0.0.0.0:7070", 0, false, false},
		{"[::]:7070", 0, false, false},
		{"10.0.0.1:7070", 0, false, false},
		{"inquest.example:7070", 0, false, false},
		{"0.0.0.0:7070", 1, false, true},
		{"0.0.0.0:7070", 0, true, true},
		{"7070", 1, true, false},
	} {
		if err := web.CheckExposure(tt.listen, tt.tokens, tt.insecure); (err == nil) != tt.ok {
			t.Errorf("CheckExposure(%q, %d, %v) = %v", tt.listen, tt.tokens, tt.insecure, err)
		}
	}
}

// certificate writes a self-signed certificate with a serial number.
func certificate(t *testing.T, serial int64, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "EC PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certificate(t, 1, cert, key)
	w := newWorld(t, web.Options{TLSCertFile: cert, TLSKeyFile: key, Tokens: tokens()})
	serial := func() int64 {
		t.Helper()
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
		w.client.Transport = transport
		a := w.get("/healthz")
		if a.StatusCode != 200 {
			t.Fatal(a.Status)
		}
		return a.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial = %d, want 1", got)
	}
	certificate(t, 2, cert, key)
	if err := w.server.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial after Reload = %d, want 2", got)
	}
	if err := os.WriteFile(cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.server.Reload(); err == nil {
		t.Error("Reload of nonsense: no error")
	}
	if got := serial(); got != 2 {
		t.Errorf("serial after a failed Reload = %d, want 2", got)
	}
	if c := w.postForm("/login", url.Values{"token": {"secret-read"}}).Cookies(); len(c) != 1 || !c[0].Secure {
		t.Errorf("cookie under TLS = %v", c)
	}
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}
