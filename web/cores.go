package web

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// offerCore answers what is wanted of a core.
func (s *Server) offerCore(c echo.Context) error {
	p := s.params(c)
	sent := sentAt(p, c.Request().Header)
	if err := p.err(); err != nil {
		return err
	}
	var offer inquest.CoreOffer
	if err := s.decode(c, &offer); err != nil {
		return err
	}
	answer, err := s.o.Crashes.Offer(c.Request().Context(), &offer, sent, caller(c).name)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

// putCoreBlock takes one block of a core that was offered.
func (s *Server) putCoreBlock(c echo.Context) error {
	p := s.params(c)
	n, err := strconv.Atoi(c.Param("n"))
	if err != nil || n < 0 {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "block %.20q: want its number", c.Param("n")))
	}
	if err := p.err(); err != nil {
		return err
	}
	b, err := s.bodies.read(c)
	if err != nil {
		return err
	}
	defer b.release()
	if err := s.o.Store.PutCoreBlock(c.Request().Context(), pathParam(c, "id"), n, b.bytes); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// commitCore ends the upload of a core.
func (s *Server) commitCore(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	answer, err := s.o.Crashes.Commit(c.Request().Context(), pathParam(c, "id"))
	if err != nil {
		if answer != nil {
			return &detailError{err, answer}
		}
		return err
	}
	return c.JSON(http.StatusOK, answer)
}

// getCores lists cores.
func (s *Server) getCores(c echo.Context) error {
	p := s.params(c, "service", "group")
	service, group := p.text("service"), p.text("group")
	if err := p.err(); err != nil {
		return err
	}
	return list(c, s.o.Store.Cores(service, group))
}

// getCore says what a core is.
func (s *Server) getCore(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	core, err := s.o.Store.Core(pathParam(c, "id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, core)
}

// getCoreGoroutines answers with what is found out about a core: why the
// process died, and what its goroutines did.
func (s *Server) getCoreGoroutines(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	found, err := s.analysis(c, pathParam(c, "id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, found)
}

// analysis is what the caller may know of what a core tells. Like the text of a
// crash it has no memory but messages and labels, unless the caller may read
// cores: then also the fields of what panics had as values.
func (s *Server) analysis(c echo.Context, id string) (*inquest.CoreAnalysis, error) {
	found, err := s.o.Analyses.Of(id)
	if err == nil && found.Report != nil && !caller(c).may(ScopeCore) {
		for i := range found.Report.Panics {
			found.Report.Panics[i].Fields = nil
		}
	}
	return found, err
}

// coreReads remembers who reads which core, so that each download is written
// down once, not each of its pieces.
type coreReads struct {
	mu   sync.Mutex
	last map[string]time.Time // by token, core and way
}

const (
	coreReadSpan = 10 * time.Minute
	maxCoreReads = 10_000
)

// begins says whether a read is the first of a download.
func (r *coreReads) begins(who string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.last[who]; ok && now.Sub(at) < coreReadSpan && !now.Before(at) {
		return false
	}
	if len(r.last) >= maxCoreReads || r.last == nil {
		r.last = map[string]time.Time{}
	}
	r.last[who] = now
	return true
}

// openCore opens a core whose body is asked for, after that was written down.
func (s *Server) openCore(c echo.Context, how string) (*store.CoreReader, error) {
	id := pathParam(c, "id")
	r, err := s.o.Store.OpenCore(id)
	if err != nil {
		return nil, err
	}
	who := caller(c).name + "\x00" + remoteHost(c.Request()) + "\x00" + id + "\x00" + how
	if c.Request().Method != http.MethodHead && s.coreReads.begins(who, s.o.Now()) {
		if err := s.record(c, "read core", id, "format", how, "crash", r.Ledger.Header().Core.Crash); err != nil {
			s.coreReads.mu.Lock()
			delete(s.coreReads.last, who)
			s.coreReads.mu.Unlock()
			_ = r.Close() // it was for reading
			return nil, err
		}
	}
	return r, nil
}

// getCoreFile answers with a core: an ELF file or a part of it, a tar archive
// that unpacks with its holes, or the image as it is stored.
func (s *Server) getCoreFile(c echo.Context) error {
	p := s.params(c, "format")
	format := p.text("format")
	switch format {
	case "", "tar", "image":
	default:
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter format=%.40q: want tar, image, or nothing for an ELF core file", format))
	}
	if err := p.err(); err != nil {
		return err
	}
	if format == "" {
		format = "elf"
	}
	r, err := s.openCore(c, format)
	if err != nil {
		return err
	}
	defer r.Close()
	im, h := r.Image(), c.Response().Header()
	name := "core-" + r.Ledger.ID()
	switch format {
	case "elf":
		file := im.CoreFile()
		h.Set(echo.HeaderContentDisposition, "attachment; filename="+name)
		h.Set("ETag", `"`+r.Ledger.ID()+`"`)
		s.serveFile(c, io.NewSectionReader(file, 0, file.Size()), time.Time{})
		return nil
	case "tar":
		file := im.CoreFile()
		return s.streamCore(c, name+".tar", func(w io.Writer) error { return file.WriteTar(w, name) })
	}
	return s.streamCore(c, name+".image", func(w io.Writer) error {
		_, err := im.WriteTo(w)
		return err
	})
}

// streamCore writes an answer of any length; one that fails is cut off.
func (s *Server) streamCore(c echo.Context, name string, write func(io.Writer) error) error {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, echo.MIMEOctetStream)
	h.Set(echo.HeaderContentDisposition, "attachment; filename="+name)
	if c.Request().Method == http.MethodHead {
		return c.NoContent(http.StatusOK)
	}
	if err := write(newStream(c)); err != nil {
		if c.Response().Committed && c.Request().Context().Err() == nil {
			s.log.Error("core cut off", "core", name, inquest.LogErr, err)
			panic(http.ErrAbortHandler)
		}
		return err
	}
	return nil
}

// getCoreLedger answers with all of a core but its blocks.
func (s *Server) getCoreLedger(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	r, err := s.openCore(c, "blocks")
	if err != nil {
		return err
	}
	defer r.Close()
	return c.Blob(http.StatusOK, echo.MIMEOctetStream, r.Ledger.Bytes())
}

// getCoreBlock answers with one block as it is stored.
func (s *Server) getCoreBlock(c echo.Context) error {
	p := s.params(c)
	n, err := strconv.Atoi(c.Param("n"))
	if err != nil {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "block %.20q: want its number", c.Param("n")))
	}
	if err := p.err(); err != nil {
		return err
	}
	r, err := s.openCore(c, "blocks")
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := r.Block(n)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, echo.MIMEOctetStream, b)
}

// deleteCore deletes a core.
func (s *Server) deleteCore(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	id := pathParam(c, "id")
	if _, err := s.o.Store.Core(id); err != nil {
		return err
	}
	if err := s.record(c, "delete core", id); err != nil {
		return err
	}
	if err := s.o.Store.DeleteCore(id); err != nil {
		s.recordFailed(c, "delete core", id, err)
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// pinCore keeps a core until it is let go; unpinCore lets it go.
func (s *Server) pinCore(c echo.Context) error   { return s.setPin(c, true, "pin core") }
func (s *Server) unpinCore(c echo.Context) error { return s.setPin(c, false, "unpin core") }

func (s *Server) setPin(c echo.Context, pinned bool, action string) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	id := pathParam(c, "id")
	if _, err := s.o.Store.Core(id); err != nil {
		return err
	}
	if err := s.record(c, action, id); err != nil {
		return err
	}
	core, err := s.o.Store.PinCore(id, pinned, caller(c).name)
	if errors.Is(err, inquest.ErrNotFound) {
		err = inquest.Errorf(inquest.ErrConflict, "blocks of core %s are still to come: it can be pinned when it is whole", id)
	}
	if err != nil {
		s.recordFailed(c, action, id, err)
		return err
	}
	return c.JSON(http.StatusOK, core)
}
