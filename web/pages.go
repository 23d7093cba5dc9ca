package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

// uiFiles is the whole UI as written: templates, ES modules, styles, icons.
//
//go:embed ui/*.html ui/*.js ui/*.css ui/*.svg
var uiFiles embed.FS

// ui is what is made of uiFiles once; it never changes afterwards.
var ui = sync.OnceValue(loadUI)

// userInterface is the UI ready to be served.
type userInterface struct {
	version string                        // hash of all assets: part of their paths, so that they can be cached for ever
	assets  map[string]asset              // by file name
	pages   map[string]*template.Template // by name of the page's template file, without .html
	modules map[string][]string           // by page: every module its scripts import, so that none waits for another to be read
}

// asset is one file browsers load.
type asset struct {
	data        []byte
	contentType string
}

// assetTypes are the files that are served as they are, by extension.
var assetTypes = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml",
}

// loadUI reads the embedded files. It panics if a template cannot be parsed:
// the program was built from files that never worked.
func loadUI() *userInterface {
	u := &userInterface{assets: map[string]asset{}, pages: map[string]*template.Template{}, modules: map[string][]string{}}
	names, err := fs.Glob(uiFiles, "ui/*")
	if err != nil {
		panic(fmt.Sprintf("web: list embedded files: %v", err))
	}
	h := sha256.New()
	for _, name := range names { // sorted by Glob
		data, err := uiFiles.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("web: read embedded %s: %v", name, err))
		}
		base, ext := path.Base(name), path.Ext(name)
		if ct, ok := assetTypes[ext]; ok {
			u.assets[base] = asset{data, ct}
			fmt.Fprintf(h, "%s %d\n", base, len(data))
			h.Write(data)
		} else if ext == ".html" && base != "layout.html" {
			page := base[:len(base)-len(ext)]
			u.pages[page] = template.Must(template.ParseFS(uiFiles, "ui/layout.html", name))
		}
	}
	u.version = hex.EncodeToString(h.Sum(nil))[:12]
	for name := range u.pages {
		u.modules[name] = u.imports("layout.js", name+".js")
	}
	return u
}

// importPath finds what a module imports.
var importPath = regexp.MustCompile(`(?m)^(?:import|export) .*from "\./([a-z]+\.js)";$`)

// imports lists the modules that the given ones need, themselves included if
// they exist, nearest first.
func (u *userInterface) imports(names ...string) []string {
	var out []string
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		a, ok := u.assets[name]
		if !ok || slices.Contains(out, name) {
			continue
		}
		out = append(out, name)
		for _, m := range importPath.FindAllSubmatch(a.data, -1) {
			names = append(names, string(m[1]))
		}
	}
	return out
}

// page is what every template gets.
type page struct {
	Name    string // of the template, and of the page's own script and style
	Title   string
	Nav     []navItem
	Assets  string // path of the assets, ending in /
	Modules []string
	Version string // of the collector
	User    string // token name of who is logged in; empty: nobody, or no tokens are configured
	Now     int64  // collector's clock, unix ms
	Data    any    // the page's own
}

// navItem is one link of the head of every page.
type navItem struct {
	Path, Title string
	Current     bool
}

// nav lists the pages people go to.
var nav = []navItem{{Path: "/explore", Title: "Explore"}, {Path: "/targets", Title: "Targets"}, {Path: "/crashes", Title: "Crashes"}, {Path: "/builds", Title: "Builds"}}

// pageRoutes are the routes of the pages and their assets.
func (s *Server) pageRoutes() []route {
	const get = http.MethodGet
	return []route{
		{get, "/", ScopeRead, func(c echo.Context) error { return c.Redirect(http.StatusSeeOther, "/explore") }},
		{get, "/explore", ScopeRead, s.explorePage},
		{get, "/targets", ScopeRead, s.targetsPage},
		{get, "/crashes", ScopeRead, s.crashesPage},
		{get, "/crashes/:id", ScopeRead, s.crashPage},
		{get, "/builds", ScopeRead, s.buildsPage},
		{get, "/builds/:id", ScopeRead, s.buildPage},
		{get, "/login", ScopeNone, s.askTokenPage},
		{get, "/assets/:version/:file", ScopeNone, s.asset},
		{get, "/favicon.ico", ScopeNone, s.favicon},
	}
}

// renderPage answers with a page. It is rendered whole before the first byte
// is sent, so that an error can still be answered as one.
func (s *Server) renderPage(c echo.Context, status int, name, title string, data any) error {
	p := page{
		Name: name, Title: title, Assets: "/assets/" + ui().version + "/", Modules: ui().modules[name],
		Version: s.o.Version, Now: s.o.Now().UnixMilli(), Data: data,
	}
	if who := caller(c); who != nobody && !s.auth.open() {
		p.User = who.name
	}
	for _, n := range nav {
		n.Current = n.Path == c.Request().URL.Path || strings.HasPrefix(c.Request().URL.Path, n.Path+"/")
		p.Nav = append(p.Nav, n)
	}
	var b bytes.Buffer
	if err := ui().pages[name].ExecuteTemplate(&b, "layout", p); err != nil {
		return fmt.Errorf("render page %s: %w", name, err)
	}
	return c.HTMLBlob(status, b.Bytes())
}

// asset answers with a file of the UI. Its path holds the hash of all assets,
// so it may be cached for ever; under another hash (of the collector before
// an upgrade) the newest file is served, and not kept.
func (s *Server) asset(c echo.Context) error {
	a, ok := ui().assets[c.Param("file")]
	if !ok {
		return echo.ErrNotFound
	}
	h := c.Response().Header()
	h.Set(echo.HeaderCacheControl, "no-cache")
	if c.Param("version") == ui().version {
		h.Set(echo.HeaderCacheControl, "public, max-age=31536000, immutable")
	}
	return serveAsset(c, a)
}

// favicon answers browsers that ask for it by its old name.
func (s *Server) favicon(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderCacheControl, "public, max-age=86400")
	return serveAsset(c, ui().assets["icon.svg"])
}

func serveAsset(c echo.Context, a asset) error {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, a.contentType)
	h.Set("ETag", `"`+ui().version+`"`)
	http.ServeContent(c.Response(), c.Request(), "", time.Time{}, bytes.NewReader(a.data))
	return nil
}

// errorData is what the error page shows.
type errorData struct {
	Status  int
	Title   string
	Message string
	Advice  string
	Request string // id under which the collector's log knows it
}

// errorTexts are a title and what to do, by status.
var errorTexts = map[int][2]string{
	http.StatusBadRequest:            {"That request cannot be read", "Check the address, or start again from the explore page."},
	http.StatusUnauthorized:          {"Please sign in", "This collector asks for a token. Sign in with one, then open the page again."},
	http.StatusForbidden:             {"Not allowed", "Sign in with a token that has the scope named above, or ask whoever runs this collector for one."},
	http.StatusNotFound:              {"There is no such page", "The link may be mistyped or belong to another version of the collector."},
	http.StatusMethodNotAllowed:      {"That is not possible here", "Go back and open the page by its link."},
	http.StatusRequestEntityTooLarge: {"That is too large", "Send less at once; the limit is named above."},
	http.StatusTooManyRequests:       {"Too much at once", "Wait a few seconds and load the page again."},
	http.StatusServiceUnavailable:    {"Not available right now", "The collector may be starting or stopping. Load the page again in a few seconds."},
	http.StatusInsufficientStorage:   {"The collector's disk is full", "What is stored can still be read. Free space on the collector's disk; it recovers by itself."},
	http.StatusInternalServerError:   {"Something went wrong inside the collector", "Load the page again. If it stays so, look in the collector's log for the request id below."},
}

// errorPage answers a browser with a page that shows an error: what happened,
// what to do, and the way back.
func (s *Server) errorPage(c echo.Context, status int, message string) error {
	text, ok := errorTexts[status]
	if !ok {
		text = [2]string{http.StatusText(status), "Go back, or start again from the explore page."}
	}
	return s.renderPage(c, status, "error", text[0], errorData{status, text[0], sentence(message), text[1], requestID(c)})
}

// sentence makes a sentence of an error's message.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	r, n := utf8.DecodeRuneInString(s)
	s = string(unicode.ToUpper(r)) + s[n:]
	if strings.ContainsAny(s[len(s)-1:], ".!?") {
		return s
	}
	return s + "."
}
