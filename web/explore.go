package web

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// explorePage is the page of flame graphs. All of its state is in the query
// string, which its script reads; the data comes from the API.
func (s *Server) explorePage(c echo.Context) error {
	return s.renderPage(c, http.StatusOK, "explore", "Explore", nil)
}
