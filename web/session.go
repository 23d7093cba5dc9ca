package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

const (
	sessionCookie = "inquest_session"
	sessionAge    = 12 * time.Hour
	maxSessions   = 4096
)

// session is somebody who is logged in.
type session struct {
	who     *principal
	expires time.Time
}

// session returns who is logged in with a cookie's value, nil if nobody is.
func (a *auth) session(id string) *principal {
	key := sha256.Sum256([]byte(id))
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.sessions[key]
	if !ok {
		return nil
	}
	if !a.now().Before(s.expires) {
		delete(a.sessions, key)
		return nil
	}
	return s.who
}

// begin makes a session and returns the cookie's value.
func (a *auth) begin(who *principal) string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // crypto/rand never fails
	id := base64.RawURLEncoding.EncodeToString(raw)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) >= maxSessions {
		a.evict()
	}
	a.sessions[sha256.Sum256([]byte(id))] = session{who, a.now().Add(sessionAge)}
	return id
}

// evict makes room for a session: the expired ones go, else the oldest.
func (a *auth) evict() {
	now := a.now()
	var oldest [sha256.Size]byte
	var first time.Time
	for k, s := range a.sessions {
		if !now.Before(s.expires) {
			delete(a.sessions, k)
		} else if first.IsZero() || s.expires.Before(first) {
			oldest, first = k, s.expires
		}
	}
	if len(a.sessions) >= maxSessions {
		delete(a.sessions, oldest)
	}
}

func (a *auth) end(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, sha256.Sum256([]byte(id)))
}

func (a *auth) cookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: a.secure, SameSite: http.SameSiteStrictMode,
	}
}

// askLogin sends a browser to the login page. A browser that followed a link
// of another site did not show its (SameSite=Strict) cookie: it is first made
// to come again from here.
func (s *Server) askLogin(c echo.Context) error {
	here := c.Request().URL.RequestURI()
	if c.Request().Header.Get("Sec-Fetch-Site") == "cross-site" && localPath(here) {
		c.Response().Header().Set("Refresh", "0;url="+here)
		return c.HTML(http.StatusOK, "<!doctype html><title>Inquest</title><p>Opening…")
	}
	return c.Redirect(http.StatusSeeOther, "/login?next="+url.QueryEscape(here))
}

// localPath reports whether a redirect to p stays on this server.
func localPath(p string) bool {
	return strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "//") && !strings.ContainsAny(p, "\\\r\n")
}

// login takes the login page's form (fields token and next): the token is
// exchanged for a session's cookie.
func (s *Server) login(c echo.Context) error {
	r := c.Request()
	r.Body = http.MaxBytesReader(c.Response().Writer, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "read the login form: %v", err)
	}
	next := r.PostForm.Get("next")
	if !localPath(next) {
		next = "/"
	}
	if s.auth.open() {
		return c.Redirect(http.StatusSeeOther, next)
	}
	who := s.auth.token(strings.TrimSpace(r.PostForm.Get("token")))
	if who == nil {
		s.audit(c, nobody, "login refused")
		return s.loginPage(c, http.StatusUnauthorized, "That is not one of the collector's tokens.", next)
	}
	s.audit(c, who, "login")
	c.SetCookie(s.auth.cookie(s.auth.begin(who), int(sessionAge/time.Second)))
	return c.Redirect(http.StatusSeeOther, next)
}

// logout ends the session.
func (s *Server) logout(c echo.Context) error {
	if cookie, err := c.Cookie(sessionCookie); err == nil {
		s.auth.end(cookie.Value)
	}
	c.SetCookie(s.auth.cookie("", -1))
	return c.Redirect(http.StatusSeeOther, "/")
}
