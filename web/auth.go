package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

// Scope is a right a token gives.
type Scope string

// The scopes. ScopeAdmin includes every other one.
const (
	ScopeNone   Scope = ""       // of a route that anybody may call
	ScopeIngest Scope = "ingest" // agents and pushers: send profiles and reports, fetch commands
	ScopeRead   Scope = "read"   // people: queries and pages, profiling a target now
	ScopeCore   Scope = "core"   // reading cores, which hold secrets
	ScopeAdmin  Scope = "admin"
)

// scopes lists what a token can be given.
var scopes = []Scope{ScopeIngest, ScopeRead, ScopeCore, ScopeAdmin}

// Token is one bearer token as the collector knows it: never the token itself.
type Token struct {
	Name   string  // whose it is; shown in the audit log
	Hash   string  // hex SHA-256 of the token
	Scopes []Scope // what it allows
}

// HashToken returns what Token.Hash must be for a token.
func HashToken(token string) string {
	h := sha256.Sum256([]byte(token))
	return hex.EncodeToString(h[:])
}

// CheckExposure says whether a collector may listen on an address with that
// many tokens configured: without any, everybody who reaches the address may
// do everything, so it has to be a loopback address unless insecure says that
// this is wanted. The error, of kind ErrInvalid, tells what to do.
func CheckExposure(listen string, tokens int, insecure bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "listen address %q: %v; want host:port, as 127.0.0.1:7070", listen, err)
	}
	if tokens > 0 || insecure {
		return nil
	}
	if ip := net.ParseIP(host); strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback() {
		return nil
	}
	return inquest.Errorf(inquest.ErrInvalid, "listen address %q can be reached from other machines and no token is configured, "+
		"so anybody could read and write everything: configure tokens, listen on 127.0.0.1, or give -insecure if the network keeps others out", listen)
}

// principal is who makes a request.
type principal struct {
	name   string // of the token; "anonymous" without one
	scopes []Scope
}

var (
	nobody   = &principal{name: "anonymous"}
	everyone = &principal{name: "anonymous", scopes: []Scope{ScopeAdmin}} // while no token is configured
	internal = &principal{name: "collector", scopes: []Scope{ScopeAdmin}} // requests of LocalClient
)

// may reports whether p has a scope.
func (p *principal) may(want Scope) bool {
	if want == ScopeNone {
		return true
	}
	return slices.Contains(p.scopes, want) || slices.Contains(p.scopes, ScopeAdmin)
}

const keyPrincipal = "principal" // in the echo context

// auth knows the tokens and who is logged in.
type auth struct {
	now    func() time.Time
	secure bool // cookies over TLS only
	tokens atomic.Pointer[[]knownToken]

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]session // by hash of the cookie's value
}

type knownToken struct {
	hash [sha256.Size]byte
	who  *principal
}

func newAuth(o Options) (*auth, error) {
	a := &auth{now: o.Now, secure: o.TLSCertFile != "", sessions: map[[sha256.Size]byte]session{}}
	return a, a.set(o.Tokens)
}

// set replaces the tokens; with an error the old ones stay. Whoever is logged
// in must log in again.
func (a *auth) set(tokens []Token) error {
	known := make([]knownToken, len(tokens))
	for i, t := range tokens {
		if t.Name == "" {
			return inquest.Errorf(inquest.ErrInvalid, "token %d has no name", i+1)
		}
		var err error
		if known[i], err = t.known(); err != nil {
			return err
		}
	}
	a.tokens.Store(&known)
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.sessions)
	return nil
}

// known checks a token's configuration.
func (t *Token) known() (knownToken, error) {
	k := knownToken{who: &principal{name: t.Name, scopes: t.Scopes}}
	hash, err := hex.DecodeString(t.Hash)
	if err != nil || len(hash) != len(k.hash) {
		return k, inquest.Errorf(inquest.ErrInvalid, "token %q: hash must be the SHA-256 of the token in %d hex digits", t.Name, 2*len(k.hash))
	}
	copy(k.hash[:], hash)
	if len(t.Scopes) == 0 {
		return k, inquest.Errorf(inquest.ErrInvalid, "token %q has no scope; known scopes are %v", t.Name, scopes)
	}
	for _, s := range t.Scopes {
		if !slices.Contains(scopes, s) {
			return k, inquest.Errorf(inquest.ErrInvalid, "token %q: unknown scope %q; known scopes are %v", t.Name, s, scopes)
		}
	}
	return k, nil
}

// open says that no token is configured: everybody may do everything.
func (a *auth) open() bool { return len(*a.tokens.Load()) == 0 }

// token returns who has a token, nil if nobody has.
func (a *auth) token(token string) *principal {
	h := sha256.Sum256([]byte(token))
	var who *principal
	for _, t := range *a.tokens.Load() {
		// All are compared, so that the time does not tell which one came near.
		if subtle.ConstantTimeCompare(h[:], t.hash[:]) == 1 {
			who = t.who
		}
	}
	return who
}

// header returns who the Authorization header of r names: nil and no error if
// there is none, ErrUnauthorized if it is not a token we know.
func (a *auth) header(r *http.Request) (*principal, error) {
	h := r.Header.Get(echo.HeaderAuthorization)
	if h == "" {
		return nil, nil
	}
	scheme, token, _ := strings.Cut(h, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		token = strings.TrimSpace(token)
	case strings.EqualFold(scheme, "Basic"):
		user, password, ok := r.BasicAuth()
		if !ok {
			return nil, inquest.Errorf(inquest.ErrUnauthorized, "the Authorization header's Basic credentials cannot be read")
		}
		// http://x:TOKEN@host, or http://TOKEN@host.
		if token = password; token == "" {
			token = user
		}
	default:
		return nil, inquest.Errorf(inquest.ErrUnauthorized, "Authorization scheme %.20q is not known; use Bearer with a token, or Basic with the token as password", scheme)
	}
	if who := a.token(token); who != nil {
		return who, nil
	}
	return nil, inquest.Errorf(inquest.ErrUnauthorized, "the token in the Authorization header is not one of the collector's")
}

// who says who makes a request. ErrUnauthorized if it shows a token that is
// not known; nobody if it shows none.
func (a *auth) who(r *http.Request) (*principal, error) {
	if r.Context().Value(localKey{}) != nil {
		return internal, nil
	}
	if a.open() {
		return everyone, nil
	}
	if p, err := a.header(r); p != nil || err != nil {
		return p, err
	}
	if c, err := r.Cookie(sessionCookie); err == nil {
		if p := a.session(c.Value); p != nil {
			return p, nil
		}
	}
	return nobody, nil
}

// allow wraps a route's handler with the check of its scope.
func (s *Server) allow(rt route) echo.HandlerFunc {
	return func(c echo.Context) error {
		who := caller(c)
		if who.may(rt.scope) {
			return rt.handler(c)
		}
		if who != nobody {
			return inquest.Errorf(inquest.ErrForbidden, "token %q lacks the scope %q, which this needs", who.name, rt.scope)
		}
		if r := c.Request(); r.Method == http.MethodGet && wantsPage(r) {
			return s.askLogin(c)
		}
		challenge(c)
		return inquest.Errorf(inquest.ErrUnauthorized, "a token with the scope %q is needed: send it as Authorization: Bearer TOKEN", rt.scope)
	}
}

// challenge says how a token can be sent. Debuginfod clients know Basic alone,
// which elsewhere would have browsers ask for it.
func challenge(c echo.Context) {
	how := `Bearer realm="inquest"`
	if strings.HasPrefix(c.Request().URL.Path, buildIDPath) {
		how = `Basic realm="inquest"`
	}
	c.Response().Header().Set(echo.HeaderWWWAuthenticate, how)
}

// caller is who makes the request.
func caller(c echo.Context) *principal {
	if p, ok := c.Get(keyPrincipal).(*principal); ok {
		return p
	}
	return nobody
}

// remoteHost is the address of the other end without its port.
func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// audit writes down who did what; args are alternating keys and values.
func (s *Server) audit(c echo.Context, who *principal, action string, args ...any) {
	s.log.With("token", who.name, "action", action, "remote", remoteHost(c.Request()), "request", requestID(c)).Info("audit", args...)
}
