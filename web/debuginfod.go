package web

import (
	"io"
	"net/http"
	"path"
	"strconv"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// buildIDPath begins the paths that debuginfod clients (gdb, delve, perf) ask
// for: see debuginfod(8) of elfutils.
const buildIDPath = "/buildid/"

// debuginfodExecutable answers with a program.
func (s *Server) debuginfodExecutable(c echo.Context) error { return s.debuginfod(c, false) }

// debuginfodDebug answers with what has the debug information of a program,
// which may be the program itself.
func (s *Server) debuginfodDebug(c echo.Context) error { return s.debuginfod(c, true) }

func (s *Server) debuginfod(c echo.Context, debug bool) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	b, err := s.findBuild(c, debug)
	if err != nil {
		return err
	}
	debuginfodHeaders(c, b, b.Bytes)
	return s.serveBuild(c, debug)
}

func debuginfodHeaders(c echo.Context, b *store.StoredBinary, size int64) {
	h := c.Response().Header()
	name := path.Base(b.Path)
	if b.Path == "" {
		name = b.ID
	}
	h.Set("X-DEBUGINFOD-SIZE", strconv.FormatInt(size, 10))
	h.Set("X-DEBUGINFOD-FILE", fileName(name))
}

// debuginfodSection answers with the bytes of a section, as they are in the
// file.
func (s *Server) debuginfodSection(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	id, err := buildID(c)
	if err != nil {
		return err
	}
	name := pathParam(c, "name")
	b, section, err := s.findSection(c, id, name)
	if err != nil {
		return err
	}
	f, err := s.o.Binaries.Open(b.SHA256)
	if err != nil {
		return err
	}
	defer f.Close()
	debuginfodHeaders(c, b, int64(section.Size))
	if c.Request().Method != http.MethodHead {
		s.audit(c, caller(c), "download section", inquest.LogBuildID, b.ID, "section", name)
	}
	s.serveFile(c, io.NewSectionReader(f, int64(section.Offset), int64(section.Size)), b.Uploaded)
	return nil
}

// findSection looks for a section where debug information is, then in the
// program.
func (s *Server) findSection(c echo.Context, id, name string) (*store.StoredBinary, *inquest.Section, error) {
	for _, find := range []func(string) (*store.StoredBinary, error){s.o.Binaries.Debug, s.o.Binaries.Executable} {
		brief, err := find(id)
		if err != nil {
			continue
		}
		b, err := s.o.Binaries.Binary(brief.SHA256)
		if err != nil {
			continue // it has just gone
		}
		for i := range b.Sections {
			if x := &b.Sections[i]; x.Name == name && !x.Absent && int64(x.Offset) >= 0 && x.Size <= uint64(b.Bytes) && x.Offset <= uint64(b.Bytes)-x.Size {
				return b, x, nil
			}
		}
	}
	return nil, nil, inquest.Errorf(inquest.ErrNotFound, "no section %.60q of build %.200q is stored", name, id)
}
