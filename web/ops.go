package web

import (
	"net/http"
	"net/http/pprof"
	"runtime"
	"strings"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/goinquest/inquest"
)

// pprofPath is where the collector's own profiles are.
const pprofPath = "/debug/pprof/"

// version says what program this is and which protocol it speaks.
func (s *Server) version(c echo.Context) error {
	return c.JSON(http.StatusOK, struct {
		Version  string `json:"version"`
		Revision string `json:"revision,omitempty"`
		Go       string `json:"go"`
		Protocol int    `json:"protocol"`
	}{s.o.Version, s.o.Revision, runtime.Version(), inquest.ProtocolVersion})
}

// healthz says that the process serves.
func (s *Server) healthz(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// readyz says whether everything stored can be read.
func (s *Server) readyz(c echo.Context) error {
	if s.stopping.Err() != nil {
		return inquest.Errorf(inquest.ErrUnavailable, "the collector is stopping")
	}
	if err := s.o.Store.Ready(); err != nil {
		return err
	}
	return c.String(http.StatusOK, "ready\n")
}

// metricsPage is the registry in Prometheus' format.
func (s *Server) metricsPage(c echo.Context) error {
	promhttp.HandlerFor(s.o.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}

// pprofPage is the collector's own /debug/pprof/.
func (s *Server) pprofPage(c echo.Context) error {
	w, r := c.Response(), c.Request()
	switch strings.TrimPrefix(r.URL.Path, pprofPath) {
	case "cmdline":
		// Arguments may hold secrets, and nothing here needs them.
		return inquest.Errorf(inquest.ErrForbidden, "the command line is not shown")
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default:
		pprof.Index(w, r)
	}
	return nil
}
