package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// stallTimeout is how long the reader of a stream may take no byte of it. The
// whole may take as long as it takes.
const stallTimeout = 2 * time.Minute

// stream writes an answer of any length.
type stream struct {
	c       echo.Context
	control *http.ResponseController
}

func newStream(c echo.Context) *stream {
	return &stream{c, http.NewResponseController(c.Response().Writer)}
}

func (s *stream) Write(p []byte) (int, error) {
	// What cannot set a deadline (the way within the process) needs none.
	if err := s.control.SetWriteDeadline(time.Now().Add(stallTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return s.c.Response().Write(p)
}

// checkLine is one line of the answer to a check: what is not nil.
type checkLine struct {
	Progress *store.CheckProgress `json:"progress,omitempty"`
	Report   *store.CheckReport   `json:"report,omitempty"`
	Error    *checkError          `json:"error,omitempty"`
}

type checkError struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// adminCheck verifies the store. Lines of progress come first, then one with
// the report, or with an error if it came to that later.
func (s *Server) adminCheck(c echo.Context) error {
	p := s.params(c, "deep")
	deep := p.boolean("deep")
	if err := p.err(); err != nil {
		return err
	}
	ctx, cancel := s.untilStop(c.Request().Context())
	defer cancel()
	out := newStream(c)
	c.Response().Header().Set(echo.HeaderContentType, "application/x-ndjson")
	line := func(l checkLine) {
		raw, err := json.Marshal(l)
		if err == nil {
			_, err = out.Write(append(raw, '\n'))
		}
		if err != nil {
			cancel() // nobody reads it
			return
		}
		c.Response().Flush()
	}
	report, err := s.o.Store.Check(ctx, deep, func(p store.CheckProgress) { line(checkLine{Progress: &p}) })
	if err != nil && !c.Response().Committed {
		return err
	}
	if err != nil {
		kind, _ := inquest.ErrorStatus(err)
		line(checkLine{Error: &checkError{kind, err.Error()}})
		return nil
	}
	if left := report.Left(); left > 0 {
		s.log.Error("check found problems", "problems", left, "first", report.Problems[0].Where, inquest.LogErr, report.Problems[0].What)
	}
	line(checkLine{Report: report})
	return nil
}

// adminBackup writes the store as a tar stream, without the files the caller
// has. When it cannot go on, the connection is cut, so that nobody takes half
// of a backup for a whole one.
func (s *Server) adminBackup(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var want struct {
		Have map[string]int64 `json:"have"`
	}
	if c.Request().Method == http.MethodPost {
		if err := s.decode(c, &want); err != nil {
			return err
		}
	}
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/x-tar")
	h.Set(echo.HeaderContentDisposition, fmt.Sprintf(`attachment; filename="inquest-%s.tar"`, s.o.Now().UTC().Format("20060102T150405Z")))
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	ctx, cancel := s.untilStop(c.Request().Context())
	defer cancel()
	began := time.Now()
	m, err := s.o.Store.BackupTar(ctx, newStream(c), want.Have, nil)
	if err != nil && !c.Response().Committed {
		h.Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
		return err
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			s.log.Error("backup cut off", "request", requestID(c), inquest.LogErr, err)
		}
		panic(http.ErrAbortHandler)
	}
	s.log.Info("backup made", "blocks", m.Blocks, inquest.LogBytes, m.Bytes, inquest.LogDur, time.Since(began))
	return nil
}
