package web

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/store"
)

// toldCrash is what became of a crash that was told.
type toldCrash struct {
	ID    string       `json:"id"`
	Group string       `json:"group"`
	Tier  inquest.Tier `json:"tier"` // what there is of it here
}

func told(c *store.StoredCrash) toldCrash { return toldCrash{c.ID, c.Group, c.Tier} }

// postCrashes takes crashes as JSON, or the text of one.
func (s *Server) postCrashes(c echo.Context) error {
	kind, _, _ := mime.ParseMediaType(c.Request().Header.Get(echo.HeaderContentType))
	if kind == echo.MIMETextPlain {
		return s.postCrashText(c)
	}
	p := s.params(c)
	sent := sentAt(p, c.Request().Header)
	if err := p.err(); err != nil {
		return err
	}
	var crashes []inquest.Crash
	if err := s.decode(c, &crashes); err != nil {
		return err
	}
	stored, err := s.o.Crashes.Put(c.Request().Context(), crashes, sent)
	if err != nil {
		return err
	}
	out := make([]toldCrash, len(stored))
	for i := range stored {
		out[i] = told(&stored[i])
	}
	return list(c, out)
}

// postCrashText takes what a process wrote while it died.
func (s *Server) postCrashText(c echo.Context) error {
	p := s.params(c, "service", "instance", "release", "process", "build", "at")
	t := &ingest.TextPush{
		Service: p.text("service"), Instance: p.text("instance"), Release: p.text("release"), Build: p.text("build"), Process: p.text("process"),
		At: p.time("at", time.Time{}), By: "api",
	}
	if err := p.err(); err != nil {
		return err
	}
	b, err := s.bodies.read(c)
	if err != nil {
		return err
	}
	defer b.release()
	t.Text = b.bytes
	crash, err := s.o.Crashes.Text(c.Request().Context(), t)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, told(crash))
}

// putCrashText takes the text of a crash that was told.
func (s *Server) putCrashText(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	b, err := s.bodies.read(c)
	if err != nil {
		return err
	}
	defer b.release()
	crash, err := s.o.Crashes.PutText(c.Request().Context(), pathParam(c, "id"), b.bytes)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, told(crash))
}

// crashPage is one page of a list of crashes.
type crashPage struct {
	Values []store.StoredCrash `json:"values"`
	Next   string              `json:"next,omitempty"` // parameter after of the next page
}

// getCrashes lists crashes, or their groups.
func (s *Server) getCrashes(c echo.Context) error {
	p := s.params(c, "service", "group", "build", "from", "until", "limit", "after", "by")
	q := store.CrashQuery{
		Service: p.text("service"), Group: p.text("group"), Build: p.text("build"), After: p.text("after"), Limit: p.number("limit", 100, 1, 1000),
		Window: inquest.Window{From: p.time("from", time.Time{}), Until: p.time("until", time.Time{})},
	}
	by := p.text("by")
	if by != "" && by != "group" {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter by=%.40q: want group, or nothing", by))
	}
	if err := p.err(); err != nil {
		return err
	}
	if by == "group" {
		groups, err := s.o.Store.CrashGroups(q)
		if err != nil {
			return err
		}
		return list(c, groups[:min(len(groups), q.Limit)])
	}
	crashes, next, err := s.o.Store.Crashes(q)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, crashPage{crashes, next})
}

// getCrash answers with one crash.
func (s *Server) getCrash(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	crash, err := s.o.Store.Crash(pathParam(c, "id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, crash)
}

// getCrashText answers with what a process wrote while it died.
func (s *Server) getCrashText(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	text, err := s.o.Store.CrashText(pathParam(c, "id"))
	if err != nil {
		return err
	}
	// It is of a program that may be hostile: no browser is to make more of it.
	c.Response().Header().Set("Content-Security-Policy", "default-src 'none'; sandbox")
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", text)
}

// getCapture says what is to be kept of a death that happens now.
func (s *Server) getCapture(c echo.Context) error {
	p := s.params(c, "service", "build", "key")
	service, build, key := p.text("service"), p.text("build"), p.text("key")
	if err := p.err(); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, struct {
		Tier inquest.Tier `json:"tier"`
	}{s.o.Crashes.Tier(service, build, key)})
}

// getAudit lists what was written down of who did what, the newest first.
func (s *Server) getAudit(c echo.Context) error {
	p := s.params(c, "limit", "before")
	limit, text := p.number("limit", 100, 1, 1000), p.text("before")
	before := uint64(0)
	if text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter before=%.40q: want the number of an entry", text))
		}
		before = n
	}
	if err := p.err(); err != nil {
		return err
	}
	entries, err := s.o.Store.AuditLog(before, limit)
	if err != nil {
		return err
	}
	return list(c, entries)
}

// record writes down who does what, durably, before it is done: what cannot be
// written down is not done.
func (s *Server) record(c echo.Context, action, object string, notes ...string) error {
	e := store.AuditEntry{Who: caller(c).name, Action: action, Object: object, Result: "ok", Remote: remoteHost(c.Request())}
	for i := 0; i+1 < len(notes); i += 2 {
		if e.Notes == nil {
			e.Notes = map[string]string{}
		}
		e.Notes[notes[i]] = clipText(notes[i+1], 256)
	}
	s.audit(c, caller(c), action, "object", object)
	if err := s.o.Store.Audit(e); err != nil {
		return fmt.Errorf("%s is not done, as it cannot be written down: %w", action, err)
	}
	return nil
}

// recordFailed writes down that something which was written down was not done.
func (s *Server) recordFailed(c echo.Context, action, object string, err error) {
	e := store.AuditEntry{Who: caller(c).name, Action: action, Object: object, Result: clipText(err.Error(), 256), Remote: remoteHost(c.Request())}
	if err := s.o.Store.Audit(e); err != nil {
		s.log.Error("not written down", "action", action, inquest.LogErr, err)
	}
}
