package web

import (
	"errors"
	"fmt"
	"go/version"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"golang.org/x/mod/semver"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/store"
)

const (
	maxMissingIDs = 10_000   // asked for in one request
	drainBytes    = 32 << 20 // of a body nobody needs, read so that the sender sees the answer
)

// storedBuild is the answer to an upload that is whole.
type storedBuild struct {
	ID          string `json:"id"`
	GNUBuildID  string `json:"gnu_build_id,omitempty"`
	GoBuildID   string `json:"go_build_id,omitempty"`
	SHA256      string `json:"sha256"`
	Bytes       int64  `json:"bytes"`
	StoredBytes int64  `json:"stored_bytes"`
	Kind        string `json:"kind"`
	DWARF       bool   `json:"dwarf"`
}

// uploadState is the answer to an upload of which something is missing.
type uploadState struct {
	Received int64 `json:"received"`
	Bytes    int64 `json:"bytes"`
}

// putBuild takes a binary, whole or a part of it.
func (s *Server) putBuild(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	u, end, err := s.upload(c)
	if err != nil {
		return err
	}
	body := &uploadBody{c: c, control: http.NewResponseController(c.Response().Writer), timeout: s.o.BodyTimeout, left: end - u.Offset}
	u.Body = body
	have, stored, err := int64(0), (*store.StoredBinary)(nil), error(nil)
	if u.Offset == askOffset {
		if have, err = s.o.Binaries.Progress(u.SHA256, u.Bytes); err == nil && have == u.Bytes {
			u.Offset, body.left = have, 0
		}
	}
	if err == nil && u.Offset != askOffset {
		have, stored, err = s.o.Binaries.Receive(c.Request().Context(), u)
	}
	body.end()
	switch {
	case err != nil:
		if errors.Is(err, inquest.ErrConflict) || errors.Is(err, inquest.ErrInvalid) {
			s.audit(c, caller(c), "upload refused", inquest.LogBuildID, u.ID, inquest.LogErr, err)
		}
		if u.SHA256 != "" {
			received(c, have)
			return &detailError{err, uploadState{have, u.Bytes}}
		}
		return err
	case stored == nil:
		received(c, have)
		return c.JSON(http.StatusPermanentRedirect, uploadState{have, u.Bytes})
	}
	s.audit(c, caller(c), "upload build", inquest.LogBuildID, stored.ID, "sha256", stored.SHA256, inquest.LogBytes, stored.Bytes, "by", u.By)
	return c.JSON(http.StatusOK, storedBuild{
		stored.ID, stored.GNUBuildID, stored.GoBuildID, stored.SHA256, stored.Bytes, stored.StoredBytes, stored.Kind, stored.DWARF,
	})
}

// received tells how much of an upload is here.
func received(c echo.Context, have int64) {
	if have > 0 {
		c.Response().Header().Set("Range", fmt.Sprintf("bytes=0-%d", have-1))
	}
}

// askOffset marks an upload that only asks how much of it is here.
const askOffset = -1

// upload reads what a PUT of a binary says of itself; end is where its body
// ends in the whole, -1 if it does not say.
func (s *Server) upload(c echo.Context) (u *ingest.BinaryUpload, end int64, err error) {
	r := c.Request()
	id, err := buildID(c)
	if err != nil {
		return nil, 0, err
	}
	u = &ingest.BinaryUpload{SHA256: strings.ToLower(r.Header.Get(inquest.HeaderSHA256))}
	u.ID, u.By, u.Source = id, caller(c).name, store.SourceCI
	if agent := r.Header.Get(inquest.HeaderAgent); agent != "" {
		u.By, u.Source = clipText(agent, 128), store.SourceAgent
	}
	text := r.Header.Get("Content-Range")
	switch {
	case text == "" && u.SHA256 == "":
		return u, -1, nil
	case text == "":
		if r.ContentLength < 0 {
			return nil, 0, inquest.Errorf(inquest.ErrInvalid, "the request says no Content-Length: with %s it is needed", inquest.HeaderSHA256)
		}
		u.Bytes = r.ContentLength
		return u, u.Bytes, nil
	case u.SHA256 == "":
		return nil, 0, inquest.Errorf(inquest.ErrInvalid, "an upload in parts needs the header %s, the SHA-256 of the whole in hex", inquest.HeaderSHA256)
	}
	if u.Offset, end, u.Bytes, err = contentRange(text); err != nil {
		return nil, 0, err
	}
	if u.Offset != askOffset && r.ContentLength >= 0 && r.ContentLength != end-u.Offset {
		return nil, 0, inquest.Errorf(inquest.ErrInvalid, "Content-Range %q is of %d bytes, Content-Length says %d", text, end-u.Offset, r.ContentLength)
	}
	return u, end, nil
}

// contentRange reads "bytes FIRST-LAST/TOTAL", or "bytes */TOTAL", of which the
// offset is askOffset. end is one beyond the last.
func contentRange(text string) (offset, end, total int64, err error) {
	spec, ok := strings.CutPrefix(text, "bytes ")
	part, all, ok2 := strings.Cut(spec, "/")
	total, err = strconv.ParseInt(all, 10, 64)
	if ok && ok2 && err == nil && part == "*" && total > 0 {
		return askOffset, askOffset, total, nil
	}
	first, last, ok3 := strings.Cut(part, "-")
	offset, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || err1 != nil || err2 != nil || offset < 0 || end < offset || end >= total {
		return 0, 0, 0, inquest.Errorf(inquest.ErrInvalid, "Content-Range %.80q: want bytes FIRST-LAST/TOTAL, or bytes */TOTAL to ask how much is here", text)
	}
	return offset, end + 1, total, nil
}

// buildID is the id in the path.
func buildID(c echo.Context) (string, error) {
	id := pathParam(c, "id")
	hex := strings.TrimPrefix(id, "go-")
	if len(hex) < 2 || len(id) > 256 || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", inquest.Errorf(inquest.ErrInvalid, "build id %.100q: want a GNU build id in hex, or go- and the SHA-256 of the Go build id in hex, all in lower case", id)
	}
	return id, nil
}

func clipText(s string, n int) string { return strings.ToValidUTF8(s[:min(len(s), n)], "") }

// uploadBody reads the body of an upload: it may take as long as it takes, if
// only something comes.
type uploadBody struct {
	c       echo.Context
	control *http.ResponseController
	timeout time.Duration
	left    int64 // of what it said; negative: it did not
	got     int64
}

func (b *uploadBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	// What cannot set a deadline (the way within the process) needs none.
	_ = b.control.SetReadDeadline(time.Now().Add(b.timeout))
	n, err := b.c.Request().Body.Read(p)
	b.got += int64(n)
	b.left -= int64(n)
	var slow interface{ Timeout() bool }
	switch {
	case err == nil, errors.Is(err, io.EOF) && b.left <= 0:
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = inquest.Errorf(inquest.ErrInvalid, "the body ended early, after %d bytes", b.got)
	case errors.As(err, &slow) && slow.Timeout():
		err = inquest.Errorf(inquest.ErrInvalid, "nothing of the body came for %v, after %d bytes", b.timeout, b.got)
	}
	return n, err
}

// end reads some of what is left, and gives time for the answer.
func (b *uploadBody) end() {
	_ = b.control.SetReadDeadline(time.Now().Add(b.timeout))
	if b.got == 0 && b.c.Request().Header.Get("Expect") != "" {
		b.c.Response().Header().Set(echo.HeaderConnection, "close") // it was not sent yet
	} else {
		_, _ = io.CopyN(io.Discard, b.c.Request().Body, drainBytes)
	}
	_ = b.control.SetReadDeadline(time.Time{})
	_ = b.control.SetWriteDeadline(time.Now().Add(stallTimeout))
}

// getBuild answers with an executable, or with what has its debug information.
func (s *Server) getBuild(c echo.Context) error {
	p := s.params(c, "debug")
	debug := p.boolean("debug")
	if err := p.err(); err != nil {
		return err
	}
	return s.serveBuild(c, debug)
}

func (s *Server) serveBuild(c echo.Context, debug bool) error {
	b, err := s.findBuild(c, debug)
	if err != nil {
		return err
	}
	f, err := s.o.Binaries.Open(b.SHA256)
	if err != nil {
		return err
	}
	defer f.Close()
	h := c.Response().Header()
	h.Set(echo.HeaderContentDisposition, "attachment; filename="+fileName(b.ID))
	h.Set(inquest.HeaderSHA256, b.SHA256)
	h.Set(inquest.HeaderDWARF, strconv.FormatBool(b.DWARF))
	h.Set("ETag", `"`+b.SHA256+`"`)
	if c.Request().Method != http.MethodHead {
		s.audit(c, caller(c), "download build", inquest.LogBuildID, b.ID, "sha256", b.SHA256)
	}
	s.serveFile(c, io.NewSectionReader(f, 0, f.Size()), b.Uploaded)
	return nil
}

func (s *Server) findBuild(c echo.Context, debug bool) (*store.StoredBinary, error) {
	id, err := buildID(c)
	if err != nil {
		return nil, err
	}
	if debug {
		return s.o.Binaries.Debug(id)
	}
	return s.o.Binaries.Executable(id)
}

// serveFile answers with a file or the ranges of it that are asked for. A
// reader that stalls is cut off.
func (s *Server) serveFile(c echo.Context, r io.ReadSeeker, modified time.Time) {
	c.Response().Header().Set(echo.HeaderContentType, echo.MIMEOctetStream)
	http.ServeContent(&fileWriter{newStream(c)}, c.Request(), "", modified, r)
}

// fileWriter is a stream that headers can be written to.
type fileWriter struct{ *stream }

func (w *fileWriter) Header() http.Header    { return w.c.Response().Header() }
func (w *fileWriter) WriteHeader(status int) { w.c.Response().WriteHeader(status) }

// missingBuilds answers which of some builds have no executable here.
func (s *Server) missingBuilds(c echo.Context) error {
	if err := s.params(c).err(); err != nil {
		return err
	}
	var want struct {
		IDs []string `json:"ids"`
	}
	if err := s.decode(c, &want); err != nil {
		return err
	}
	if len(want.IDs) > maxMissingIDs {
		return inquest.Errorf(inquest.ErrTooLarge, "%d ids are asked for, %d are the most", len(want.IDs), maxMissingIDs)
	}
	return list(c, s.o.Binaries.Missing(want.IDs))
}

// getBuilds lists builds.
func (s *Server) getBuilds(c echo.Context) error {
	p := s.params(c, "id", "goid", "service", "module", "module_below", "go_below", "dirty", "code", "vulnerable", "detail")
	keep, detail, vulnerable := p.buildFilter(), p.boolean("detail"), p.boolean("vulnerable")
	id := p.text("id")
	if err := p.err(); err != nil {
		return err
	}
	builds, err := s.o.Binaries.Builds()
	if err != nil {
		return err
	}
	builds = slices.DeleteFunc(builds, func(b ingest.BuildState) bool { return !keep(&b) })
	rows := make([]buildRow, 0, len(builds))
	for i := range builds {
		if id != "" && builds[i].Code == ingest.CodeMissing {
			s.o.Binaries.Want(id)
		}
		row := s.buildRow(&builds[i], detail)
		if id != "" && detail {
			row.Running = s.running(row.ID)
		}
		if n := row.VulnerabilityCount; !vulnerable || n != nil && *n > 0 {
			rows = append(rows, row)
		}
	}
	return list(c, rows)
}

// buildFilter is what the parameters want of a build.
func (p *params) buildFilter() func(*ingest.BuildState) bool {
	var tests []func(*ingest.BuildState) bool
	add := func(name string, test func(b *ingest.BuildState) bool) {
		if p.text(name) != "" {
			tests = append(tests, test)
		}
	}
	id, goid, service, module, code, dirty := p.text("id"), p.text("goid"), p.text("service"), p.text("module"), p.text("code"), p.boolean("dirty")
	path, below, _ := strings.Cut(p.text("module_below"), "@")
	if p.text("module_below") != "" && (path == "" || !semver.IsValid(below)) {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter module_below=%.100q: want a module and a version, as golang.org/x/net@v0.38.0", p.text("module_below")))
	}
	goBelow := "go" + strings.TrimPrefix(p.text("go_below"), "go")
	if p.text("go_below") != "" && !version.IsValid(goBelow) {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter go_below=%.40q: want a version of Go, as 1.25 or 1.25.3", p.text("go_below")))
	}
	if version.Lang(goBelow) == goBelow && version.Compare(goBelow, "go1.21") >= 0 {
		goBelow += ".0" // its release candidates are below it; older releases are spelled without
	}
	add("id", func(b *ingest.BuildState) bool {
		return b.ID == id || slices.ContainsFunc(b.Binaries, func(x store.StoredBinary) bool { return slices.Contains(x.IDs(), id) })
	})
	add("goid", func(b *ingest.BuildState) bool { return b.GoBuildID == goid })
	add("service", func(b *ingest.BuildState) bool {
		return slices.ContainsFunc(b.Services, func(x store.SeenBuild) bool { return x.Service == service })
	})
	add("module", func(b *ingest.BuildState) bool { return hasModule(b, module, "") })
	add("module_below", func(b *ingest.BuildState) bool { return hasModule(b, path, below) })
	add("go_below", func(b *ingest.BuildState) bool {
		v, _, _ := strings.Cut(b.GoVersion, " ") // experiments follow
		return version.IsValid(v) && version.Compare(v, goBelow) < 0
	})
	add("dirty", func(b *ingest.BuildState) bool { return b.Modified == dirty })
	add("code", func(b *ingest.BuildState) bool { return b.Code == code })
	return func(b *ingest.BuildState) bool {
		return !slices.ContainsFunc(tests, func(test func(*ingest.BuildState) bool) bool { return !test(b) })
	}
}

// hasModule says whether a build has a module in it, of a version below one if
// that is given. Of a module that was replaced what was built instead counts.
func hasModule(b *ingest.BuildState, path, below string) bool {
	is := func(m *inquest.Module) bool {
		return m.Path == path && (below == "" || semver.IsValid(m.Version) && semver.Compare(m.Version, below) < 0)
	}
	if is(&inquest.Module{Path: b.Module, Version: b.Version}) {
		return true
	}
	return slices.ContainsFunc(b.Modules, func(m inquest.Module) bool {
		return is(m.Built())
	})
}
