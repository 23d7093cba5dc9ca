package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
)

// apiError is the API's JSON of an error.
type apiError struct {
	Error struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	} `json:"error"`
}

// detailError is an error with something a program can use.
type detailError struct {
	error
	detail any
}

func (e *detailError) Unwrap() error { return e.error }

// statusGone stands in log and metrics for a caller that went away.
const statusGone = 499

// fault is an error as it is answered.
type fault struct {
	kind    string
	status  int
	message string
	detail  any
}

// handleError answers a request that failed. It is echo's error handler: the
// one place where errors of requests are logged and written.
func (s *Server) handleError(err error, c echo.Context) {
	r := c.Request()
	if r.Context().Err() != nil && errors.Is(err, context.Canceled) && s.stopping.Err() == nil {
		c.Response().Status = statusGone // for the log: nobody waits for an answer
		return
	}
	f := s.fault(err, c)
	if f.status == http.StatusInternalServerError {
		s.log.Error("request failed", "request", requestID(c), "method", r.Method, "path", r.URL.Path, inquest.LogErr, err)
	}
	if c.Response().Committed {
		return
	}
	if werr := s.answerError(c, f); werr != nil {
		s.log.Debug("error not delivered", "request", requestID(c), inquest.LogErr, werr)
	}
}

// fault decides what the caller is told of an error.
func (s *Server) fault(err error, c echo.Context) fault {
	var he *echo.HTTPError
	var big *http.MaxBytesError
	var de *detailError
	f := fault{}
	switch {
	case errors.Is(err, echo.ErrNotFound):
		return s.noRoute(c)
	case errors.Is(err, echo.ErrMethodNotAllowed):
		return fault{kind: "method_not_allowed", status: http.StatusMethodNotAllowed,
			message: c.Request().Method + " is not possible here; possible: " + c.Response().Header().Get(echo.HeaderAllow)}
	case errors.As(err, &he):
		return fault{kind: "invalid", status: he.Code, message: http.StatusText(he.Code)}
	case errors.As(err, &big):
		err = inquest.Errorf(inquest.ErrTooLarge, "the body exceeds %d bytes", big.Limit)
	case errors.Is(err, context.Canceled) && s.stopping.Err() != nil:
		err = inquest.Errorf(inquest.ErrUnavailable, "the collector is stopping; try again in a moment")
	case errors.Is(err, context.DeadlineExceeded) && !isKind(err):
		err = inquest.Errorf(inquest.ErrUnavailable, "this took longer than allowed; ask for less time or fewer services")
	}
	f.kind, f.status = inquest.ErrorStatus(err)
	f.message = err.Error()
	if errors.As(err, &de) {
		f.detail = de.detail
	}
	if f.status == http.StatusInternalServerError {
		f.message = "internal error; the collector's log says more under request id " + requestID(c)
		f.detail = map[string]string{"request_id": requestID(c)}
	}
	return f
}

// isKind reports whether err is of one of the dictionary's kinds.
func isKind(err error) bool {
	_, status := inquest.ErrorStatus(err)
	return status != http.StatusInternalServerError
}

// answerError writes an error: JSON to programs, a page to people.
func (s *Server) answerError(c echo.Context, f fault) error {
	h := c.Response().Header()
	switch f.status {
	case http.StatusTooManyRequests:
		h.Set(echo.HeaderRetryAfter, "1")
	case http.StatusServiceUnavailable:
		h.Set(echo.HeaderRetryAfter, "5")
	}
	h.Del(echo.HeaderContentEncoding)
	h.Del(echo.HeaderContentDisposition)
	if wantsPage(c.Request()) {
		return s.errorPage(c, f.status, f.message)
	}
	var e apiError
	e.Error.Kind, e.Error.Message, e.Error.Detail = f.kind, f.message, f.detail
	return c.JSON(f.status, e)
}

// wantsPage reports whether a request comes from a person's browser and wants
// HTML.
func wantsPage(r *http.Request) bool {
	return !strings.HasPrefix(r.URL.Path, "/api/") && strings.Contains(r.Header.Get(echo.HeaderAccept), "text/html")
}

// noRoute is the answer to a path that does not exist: it names those that
// look like it.
func (s *Server) noRoute(c echo.Context) fault {
	path := c.Request().URL.Path
	f := fault{kind: "not_found", status: http.StatusNotFound, message: "there is nothing at " + path}
	var paths []string
	for _, rt := range s.table {
		if strings.HasPrefix(rt.path, "/api/") == strings.HasPrefix(path, "/api/") && !slices.Contains(paths, rt.path) {
			paths = append(paths, rt.path)
		}
	}
	if near := nearest(path, paths, 3); len(near) > 0 {
		f.message += "; did you mean " + strings.Join(near, " or ") + "?"
		f.detail = map[string]any{"near": near}
	}
	return f
}

// nearest returns up to limit candidates that could be what was meant by name,
// nearest first; none if none is near.
func nearest(name string, candidates []string, limit int) []string {
	type scored struct {
		name string
		d    int
	}
	var found []scored
	for _, c := range candidates {
		d := distance(strings.ToLower(name), strings.ToLower(c))
		if d <= max(2, len(c)/3) {
			found = append(found, scored{c, d})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return a.d - b.d })
	var out []string
	for _, f := range found[:min(limit, len(found))] {
		out = append(out, f.name)
	}
	return out
}

// distance is the number of bytes to insert, delete or replace to make b of a
// (Levenshtein), of strings cut to what makes sense to compare.
func distance(a, b string) int {
	const most = 128
	a, b = a[:min(len(a), most)], b[:min(len(b), most)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
