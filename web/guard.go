package web

import (
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

// contentPolicy lets pages load what this server serves and nothing else; no
// inline script or style.
const contentPolicy = "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// guard refuses requests that a browser was tricked into.
type guard struct {
	hosts map[string]bool // lower case names that may stand in Host
	cross *http.CrossOriginProtection
}

func newGuard(o Options) (*guard, error) {
	g := &guard{hosts: map[string]bool{"localhost": true}, cross: http.NewCrossOriginProtection()}
	if host, _, err := net.SplitHostPort(o.Listen); err == nil && host != "" {
		g.hosts[strings.ToLower(host)] = true
	}
	for _, h := range o.Hosts {
		if h == "" || strings.ContainsAny(h, "/:@ *") {
			return nil, inquest.Errorf(inquest.ErrInvalid, "host %q: want a host name alone, without scheme, port or wildcard", h)
		}
		g.hosts[strings.ToLower(strings.TrimSuffix(h, "."))] = true
	}
	return g, nil
}

// host checks the Host header: a page of another site whose name was made to
// point here (DNS rebinding) shows that name in it.
func (g *guard) host(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name := strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if g.hosts[name] || net.ParseIP(name) != nil {
		return nil
	}
	return inquest.Errorf(inquest.ErrForbidden,
		"the collector is not known by the host name %.100q: add it to hosts in the collector's configuration, or use its IP address", host)
}

// origin checks that a request that changes something was not made by a page
// of another site.
func (g *guard) origin(r *http.Request) error {
	if err := g.cross.Check(r); err != nil {
		return inquest.Errorf(inquest.ErrForbidden, "a page of another site made this request (%v); it is refused", err)
	}
	return nil
}

// protocol checks the version of the protocol the other end speaks, if it says so.
func protocol(r *http.Request) error {
	v := r.Header.Get(inquest.HeaderProtocol)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	switch {
	case err != nil:
		return inquest.Errorf(inquest.ErrInvalid, "header %s: %.20q is not a number; this collector speaks version %d", inquest.HeaderProtocol, v, inquest.ProtocolVersion)
	case n < inquest.ProtocolVersion:
		return inquest.Errorf(inquest.ErrInvalid, "you speak version %d of the protocol, this collector version %d: upgrade the agent or client", n, inquest.ProtocolVersion)
	case n > inquest.ProtocolVersion:
		return inquest.Errorf(inquest.ErrInvalid, "you speak version %d of the protocol, this collector only version %d: upgrade the collector", n, inquest.ProtocolVersion)
	}
	return nil
}

// admit identifies the caller and refuses what is unsafe, before anything is
// routed.
func (s *Server) admit(c echo.Context) error {
	r := c.Request()
	who, err := s.auth.who(r)
	if err != nil {
		challenge(c)
		return err
	}
	c.Set(keyPrincipal, who)
	if who == internal {
		return nil
	}
	// A browser does not add a token to requests that a foreign page makes, so
	// agents with a token need no list of hosts.
	if r.Header.Get(echo.HeaderAuthorization) == "" || s.auth.open() {
		if err := s.guard.host(r); err != nil {
			return err
		}
	}
	if err := s.guard.origin(r); err != nil {
		return err
	}
	return protocol(r)
}

var protocolVersion = strconv.Itoa(inquest.ProtocolVersion)

// secureHeaders are the headers every answer has. All answers share the
// values: whoever wants another one sets it, and changes none in place.
var secureHeaders = http.Header{
	"Content-Security-Policy": {contentPolicy},
	"X-Content-Type-Options":  {"nosniff"},
	"Referrer-Policy":         {"no-referrer"},
	"Cache-Control":           {"no-store"}, // assets say otherwise

	http.CanonicalHeaderKey(inquest.HeaderProtocol): {protocolVersion},
}

// secure sets the headers every answer has.
func secure(h http.Header) { maps.Copy(h, secureHeaders) }
