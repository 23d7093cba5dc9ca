package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// loginData is what the login page shows.
type loginData struct {
	Message string // why the last token was not taken
	Next    string // local path to go to afterwards
	Open    bool   // no token is configured: there is nothing to sign in to
}

// askTokenPage is GET /login.
func (s *Server) askTokenPage(c echo.Context) error {
	next := c.QueryParam("next")
	if !localPath(next) {
		next = "/"
	}
	return s.loginPage(c, http.StatusOK, "", next)
}

// loginPage answers with the page that asks for a token; message says why the
// last one was not taken, next is the local path to go to afterwards.
func (s *Server) loginPage(c echo.Context, status int, message, next string) error {
	return s.renderPage(c, status, "login", "Sign in", loginData{message, next, s.auth.open()})
}
