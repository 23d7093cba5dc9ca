package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// targetsPage lists agents and targets, which its script fetches from the API.
func (s *Server) targetsPage(c echo.Context) error {
	return s.renderPage(c, http.StatusOK, "targets", "Targets", nil)
}
