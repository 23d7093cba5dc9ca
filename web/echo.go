package web

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

const (
	keyRequest      = "request" // in the echo context
	headerRequestID = "X-Request-Id"
	gzipMinBytes    = 2 << 10
)

// newEcho builds the handler of everything from the route table.
func (s *Server) newEcho() (*echo.Echo, error) {
	e := echo.New()
	e.HTTPErrorHandler = s.handleError
	e.Pre(s.outermost)
	compress, err := compressing()
	if err != nil {
		return nil, err
	}
	e.Use(compress)
	seen := map[string]bool{}
	for _, rt := range s.table {
		id := rt.method + " " + rt.path
		if seen[id] {
			return nil, fmt.Errorf("web: route %s stands twice in the table", id)
		}
		seen[id] = true
		h := s.allow(rt)
		e.Add(rt.method, rt.path, h)
		if rt.method == http.MethodGet {
			e.Add(http.MethodHead, rt.path, h)
		}
	}
	return e, nil
}

// compressing is the middleware that compresses answers. The one of echo takes
// twice as long, as much as adding up what a flame graph shows.
func compressing() (echo.MiddlewareFunc, error) {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(gzipMinBytes), gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		return nil, err
	}
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) (err error) {
			if incompressible(c) {
				return next(c)
			}
			res := c.Response()
			w := res.Writer
			defer func() { res.Writer = w }() // errors are answered outside
			wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				res.Writer = w
				err = next(c)
			})).ServeHTTP(w, c.Request())
			return err
		}
	}, nil
}

// incompressible says which answers are compressed already, are small, are a
// part of a file, or compress themselves.
func incompressible(c echo.Context) bool {
	r := c.Request()
	p := r.URL.Path
	return r.Method != http.MethodGet || r.Header.Get("Range") != "" || p == "/api/v1/profile" || p == "/api/v1/admin/backup" || p == "/metrics" ||
		strings.HasPrefix(p, "/api/v1/builds/") || strings.HasPrefix(p, corePath) || strings.HasPrefix(p, buildIDPath) || strings.HasPrefix(p, pprofPath)
}

// outermost surrounds every request: id, headers, checks, panics, log,
// metrics.
func (s *Server) outermost(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		id := newRequestID()
		c.Set(keyRequest, id)
		h := c.Response().Header()
		h.Set(headerRequestID, id)
		secure(h)
		err := s.admit(c)
		if err == nil {
			err = s.run(c, next)
		}
		if err != nil {
			c.Error(err)
		}
		s.observe(c, time.Since(began))
		return nil
	}
}

// run calls next and makes an error of a panic.
func (s *Server) run(c echo.Context, next echo.HandlerFunc) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if v == http.ErrAbortHandler {
			panic(v) // net/http's way to cut a connection
		}
		s.log.Error("panic", "request", requestID(c), "value", fmt.Sprint(v), "stack", string(debug.Stack()))
		err = fmt.Errorf("panic: %v", v)
	}()
	return next(c)
}

// observe counts a request that was answered and logs it.
func (s *Server) observe(c echo.Context, dur time.Duration) {
	r, resp := c.Request(), c.Response()
	path := c.Path()
	if path == "" {
		path = "none"
	}
	s.mt.observe(path, resp.Status, dur)
	if !s.log.Enabled(r.Context(), slog.LevelDebug) {
		return // before all of this is put together
	}
	s.log.Debug("request", "request", requestID(c), "method", r.Method, "path", r.URL.Path, "status", resp.Status,
		inquest.LogBytes, resp.Size, inquest.LogDur, dur, "remote", remoteHost(r), "token", caller(c).name)
}

// requestID is the id under which the request stands in the log.
func requestID(c echo.Context) string {
	id, _ := c.Get(keyRequest).(string)
	return id
}

func newRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}
