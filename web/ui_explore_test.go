package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/web"
)

// newFleetWorld is a collector with CPU and heap profiles of two real programs
// of the last minutes, and the query string that selects them.
func newFleetWorld(t testing.TB, o web.Options, headers ...string) *world {
	t.Helper()
	w := newWorld(t, o)
	now := time.Now().UTC()
	for _, body := range corpus.Load("cpu", "heap") {
		if body.Program != "etcd" && body.Program != "nats" || body.Seq > 5 {
			continue
		}
		start := now.Add(time.Duration(body.Seq-12) * time.Minute)
		q := url.Values{
			"service": {body.Program}, "instance": {body.Program + ":6060"}, "kind": {body.Kind}, "release": {"v" + fmt.Sprint(1+body.Seq/3)},
			"start": {start.Format(time.RFC3339)}, "end": {start.Add(10 * time.Second).Format(time.RFC3339)}, "interval": {"60"}, "label.env": {"prod"},
		}
		w.push(q.Encode(), body.Data, headers...)
	}
	return w
}

// topAnswer is what the tests read of /api/v1/top.
type topAnswer struct {
	Rows []struct {
		Name      string
		Self, Cum float64
	}
	Total float64
}

// graphAnswer is what the tests read of /api/v1/flamegraph.
type graphAnswer struct {
	Names []string
	Nodes struct {
		Name, Parent []int
		Self, Cum    []float64
	}
	Total float64
}

// widestChild is the child of a node with the largest cum.
func (g *graphAnswer) widestChild(node int) int {
	best := -1
	for i, p := range g.Nodes.Parent {
		if i > 0 && p == node && (best < 0 || g.Nodes.Cum[i] > g.Nodes.Cum[best]) {
			best = i
		}
	}
	return best
}

func (g *graphAnswer) name(node int) string { return g.Names[g.Nodes.Name[node]] }

// exploreReady holds once everything the page asked for is shown.
const exploreReady = `document.querySelector("#work")?.getAttribute("aria-busy") === "false" && document.querySelector("#coverage").childElementCount > 0`

// etcd is the selection most tests look at, with a window that stays.
func etcd(w *world) (address string, q url.Values) {
	now := time.Now().UTC()
	q = url.Values{
		"query": {`{service="etcd"}`}, "type": {"cpu"},
		"from": {now.Add(-30 * time.Minute).Format(time.RFC3339)}, "until": {now.Format(time.RFC3339)},
	}
	return w.url + "/explore?" + q.Encode(), q
}

func testExploreShowsWhatTheAPISays(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	address, q := etcd(w)
	b.open(address)
	b.wait("the data", exploreReady)
	var top topAnswer
	w.getJSON("/api/v1/top?"+q.Encode(), &top)
	var graph graphAnswer
	w.getJSON("/api/v1/flamegraph?"+q.Encode()+"&max_nodes=100000", &graph)
	if graph.Total == 0 || len(top.Rows) < 20 {
		t.Fatalf("the API has total %v in %d rows", graph.Total, len(top.Rows))
	}

	var want []string
	for _, r := range top.Rows[:15] {
		want = append(want, r.Name)
	}
	rows := `[...document.querySelectorAll("#table-pane tr[data-i] td.name")].slice(0, 15).map((td) => td.title.split("\n")[0])`
	if diff := cmp.Diff(want, eval[[]string](b, rows)); diff != "" {
		t.Errorf("first rows of the table (-API +page):\n%s", diff)
	}
	if got := b.text("#coverage"); !strings.Contains(got, "6 profiles of 1 process") {
		t.Errorf("coverage line %q does not say 6 profiles of 1 process", got)
	}

	// The second row of the graph begins with the widest child of the root.
	first := graph.widestChild(0)
	p := b.place("#flame")
	b.move(p.X+10, p.Y+31)
	b.wait("the details", `!document.querySelector("#tip").hidden`)
	if got := b.text("#tip .fn"); got != graph.name(first) {
		t.Errorf("the first frame is %q, want %q", got, graph.name(first))
	}
	if got, want := b.text("#tip"), fmt.Sprintf("%.3g%%", 100*graph.Nodes.Cum[first]/graph.Total); !strings.Contains(got, want) {
		t.Errorf("details %q do not say %s", got, want)
	}
	b.shot("explore-hover")

	// By keyboard: the root, then its widest child, then that one's.
	b.focus("#flame")
	for range 3 {
		b.key(keyDown)
	}
	if second := graph.widestChild(first); second >= 0 {
		if got := b.text("#flame-status"); !strings.HasPrefix(got, graph.name(second)+": ") {
			t.Errorf("status line %q, want it to begin with %q", got, graph.name(second))
		}
	}
	b.key(keyEnter)
	b.wait("the zoom to the frame chosen by keyboard", `location.search.includes("zoom=") && !document.querySelector("#crumbs").hidden`)
	b.key(keyEscape)
	b.wait("the whole", `!location.search.includes("zoom=")`)
	for by, min := range map[string]int{"package": 5, "service": 1, "release": 2} {
		b.set("#top-by", by, "change")
		b.wait("the table by "+by, exploreReady+fmt.Sprintf(` && document.querySelectorAll("#table-pane tr[data-i]").length >= %d && new URLSearchParams(location.search).get("top") === %q`, min, by))
	}
}

func testExploreStateIsItsURL(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	address, q := etcd(w)
	b.open(address)
	b.wait("the data", exploreReady)
	var graph graphAnswer
	w.getJSON("/api/v1/flamegraph?"+q.Encode()+"&max_nodes=100000", &graph)
	first := graph.name(graph.widestChild(0))

	p := b.place("#flame")
	click := fmt.Sprintf(`document.querySelector("#flame").dispatchEvent(new MouseEvent("click", {clientX: %v, clientY: %v, bubbles: true, detail: 1}))`, p.X+10, p.Y+31)
	eval[any](b, click)
	b.wait("the zoom in the address", `location.search.includes("zoom=")`)
	b.focus("#flame")
	b.shortcut("i")
	b.wait("the flip in the address", `location.search.includes("root=bottom")`)
	b.shortcut("/")
	b.key("grpc")
	b.wait("the search in the address", `new URLSearchParams(location.search).get("search") === "grpc"`)
	crumbs, found := b.text("#crumbs"), b.text("#found")
	if !strings.Contains(found, "%") {
		t.Errorf("the search found %q, want a percentage", found)
	}

	b.reload()
	b.wait("the same view after a reload", exploreReady+` && !document.querySelector("#crumbs").hidden`)
	if got := b.text("#crumbs"); got != crumbs {
		t.Errorf("breadcrumb after a reload is %q, was %q", got, crumbs)
	}
	if got := b.text("#found"); got != found {
		t.Errorf("search result after a reload is %q, was %q", got, found)
	}
	if got := b.text("#flip-text"); got != "Flame" {
		t.Errorf("orientation after a reload is %q", got)
	}

	eval[any](b, "history.back()")
	b.wait("the flip to be gone", `!location.search.includes("root=") && document.querySelector("#flip-text").textContent === "Icicle"`)
	eval[any](b, "history.back()")
	b.wait("the zoom to be gone", `!location.search.includes("zoom=")`)

	b.focus("#flame")
	b.key(keyDown)
	b.key(keyDown)
	b.shortcut("s")
	b.wait("the sandwich", `new URLSearchParams(location.search).get("sandwich") !== null`)
	if got := b.param("sandwich"); got != first {
		t.Errorf("sandwich of %q, want %q", got, first)
	}
	b.shot("explore-sandwich")
	b.key(keyEscape)
	b.wait("the sandwich to be gone", `!location.search.includes("sandwich=")`)

	// A row chosen by keyboard is marked in the graph.
	b.focus("#table-pane tr[data-i]")
	b.key(keyDown)
	b.key(keyEnter)
	b.wait("the mark", `location.search.includes("mark=") && document.querySelector("#table-pane tr.picked")`)
}

func testExploreTimeAndFilters(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900, "status of 400"), newFleetWorld(t, web.Options{})
	address, _ := etcd(w)
	b.open(address)
	b.wait("the data", exploreReady)
	from, until := b.param("from"), b.param("until")
	p := b.place("#timeline")
	b.drag(p.X+p.W*0.5, p.Y+40, p.X+p.W*0.7, p.Y+50)
	b.wait("the brush in the address", fmt.Sprintf(`new URLSearchParams(location.search).get("from") > %q && new URLSearchParams(location.search).get("until") < %q`, from, until))
	b.wait("the data of the brush", exploreReady+` && /profile/.test(document.querySelector("#coverage").textContent)`)
	if got := b.text("#coverage"); strings.Contains(got, "6 profiles") {
		t.Errorf("coverage %q still has every profile", got)
	}
	brushed := b.param("from")
	eval[any](b, `document.querySelector("#timeline").dispatchEvent(new MouseEvent("dblclick"))`)
	b.wait("the wider range", fmt.Sprintf(`new URLSearchParams(location.search).get("from") < %q`, brushed))

	// A wrong selector is said under its field; a right one is chips.
	b.set("#query", `{env=prod}`, "change")
	b.wait("the error under the selector", `!document.querySelector("#query-error").hidden && document.querySelector("#query-error").textContent.length > 10`)
	b.shot("explore-bad-selector")
	b.set("#query", `{service="nats", env="prod"}`, "change")
	b.wait("the chip", `document.querySelector("#query-error").hidden && document.querySelector(".chip")?.textContent.includes("prod") && document.querySelector("#service").value === "nats"`)

	// Values come from the API.
	b.click("#add-filter")
	b.key("rel")
	b.wait("the label's name", `[...document.querySelectorAll(".options:not([hidden]) li")].some((li) => li.textContent === "release")`)
	b.shortcut("ArrowDown")
	b.shortcut("Enter")
	b.wait("the label's values", `[...document.querySelectorAll(".options:not([hidden]) li")].some((li) => li.textContent === "v2")`)
	b.key("v2")
	b.shortcut("Enter")
	b.key(keyEnter)
	b.wait("the filter in the address", `new URLSearchParams(location.search).get("query") === '{service="nats", env="prod", release="v2"}'`)

	// A window without profiles says where they are.
	b.open(w.url + "/explore?" + url.Values{"query": {`{service="etcd"}`}, "type": {"cpu"}, "from": {"2026-01-01T00:00:00Z"}, "until": {"2026-01-01T01:00:00Z"}}.Encode())
	b.wait("the empty state", `!document.querySelector("#notice").hidden && document.querySelector("#notice").textContent.includes("No profiles here")`)
	b.shot("explore-empty")
}

func testExploreTypes(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	_, q := etcd(w)
	q.Set("type", "inuse_space")
	b.open(w.url + "/explore?" + q.Encode())
	b.wait("the data", exploreReady)
	types := eval[[]string](b, `[...document.querySelectorAll("#type option")].map((o) => o.value)`)
	if diff := cmp.Diff([]string{"cpu", "samples", "inuse_space", "inuse_objects", "alloc_space", "alloc_objects"}, types); diff != "" {
		t.Errorf("types in the picker (-want +got):\n%s", diff)
	}
	if got := b.text("#coverage"); !strings.Contains(got, "iB in use on average") {
		t.Errorf("coverage line %q", got)
	}
	for agg, phrase := range map[string]string{"max": "largest of each process", "last": "last of each process"} {
		b.set("#agg", agg, "change")
		b.wait("agg="+agg, exploreReady+fmt.Sprintf(` && document.querySelector("#notice").hidden && /one value per/.test(document.querySelector("#timeline-readout").textContent) && document.querySelector("#coverage").textContent.includes(%q)`, phrase))
	}
	b.set("#type", "cpu", "change")
	b.wait("cpu", exploreReady+` && document.querySelector("#coverage").textContent.includes("of CPU time")`)
	for _, name := range types {
		b.set("#type", name, "change")
		b.wait(name, exploreReady+fmt.Sprintf(` && document.querySelector("#notice").hidden && new URLSearchParams(location.search).get("type") === %q && document.querySelector("#coverage .total").textContent.length > 5 && /one value per/.test(document.querySelector("#timeline-readout").textContent)`, name))
		if got := eval[int](b, `document.querySelectorAll("#table-pane tr[data-i]").length`); got == 0 {
			t.Errorf("no rows of type %s", name)
		}
	}
	b.set("#type", "cpu", "change")
	b.wait("cpu again", exploreReady+` && location.search.includes("type=cpu")`)
	b.click("#rate")
	b.wait("the rate", exploreReady+` && /core.*estimated/.test(document.querySelector("#coverage").textContent)`)
}

// namelessControls lists what a person can operate but a screen reader cannot name.
const namelessControls = `[...document.querySelectorAll("button, select, input, canvas, a")].filter((e) =>
  e.type !== "hidden" && !e.textContent.trim() && !e.ariaLabel && !e.title && !e.labels?.length && !e.getAttribute("aria-labelledby") || e.tagName === "SELECT" && !e.ariaLabel && !e.labels.length).map((e) => e.outerHTML.slice(0, 120))`

func testThemesAndWidths(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	address, _ := etcd(w)
	background := `getComputedStyle(document.body).backgroundColor`
	for _, page := range []string{"explore", "targets"} {
		to := w.url + "/targets"
		if page == "explore" {
			to = address
		}
		seen := map[string]bool{}
		for _, scheme := range []string{"light", "dark"} {
			b.prefer(scheme)
			b.open(to)
			if page == "explore" {
				b.wait("the data", exploreReady)
			}
			seen[eval[string](b, background)] = true
			b.shot(page + "-" + scheme)
		}
		if len(seen) != 2 {
			t.Errorf("%s has the same background in light and dark: %v", page, seen)
		}
	}
	dark := eval[string](b, background)
	b.click("#theme")
	b.wait("the light theme", fmt.Sprintf(`document.documentElement.dataset.theme === "light" && %s !== %q`, background, dark))
	b.open(address)
	b.wait("the data", exploreReady)
	if got := eval[string](b, background); got == dark {
		t.Error("the chosen theme is forgotten on the next page")
	}
	b.click("#zone")
	b.wait("UTC", `document.querySelector("#zone").textContent === "UTC"`)
	for _, width := range []int{360, 768, 2560} {
		b.resize(width, 900)
		days := w.url + "/explore?type=cpu&from=2025-12-31T23:30:30Z&until=2026-12-30T12:00:30Z" // a long text for the time
		for _, to := range []string{address, days, w.url + "/targets", w.url + "/login"} {
			b.open(to)
			if to == address {
				b.wait("the data", exploreReady)
			}
			if nameless := eval[[]string](b, namelessControls); len(nameless) > 0 {
				t.Errorf("%s has controls without a name for screen readers: %q", to, nameless)
			}
			if wide := eval[int](b, "document.scrollingElement.scrollWidth"); wide > width {
				t.Errorf("%s is %d px wide in a window of %d", to, wide, width)
			}
		}
	}
}

func testErrorPages(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900, "status of 404"), newWorld(t, web.Options{})
	a := w.get("/explor", "Accept: text/html")
	if a.StatusCode != http.StatusNotFound || !strings.Contains(string(a.body), "/explore") {
		t.Errorf("GET /explor: %s, want 404 and a hint at /explore", a.Status)
	}
	if got := a.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/html") {
		t.Errorf("GET /explor as a browser answers %s", got)
	}
	if a := w.get("/", "Accept: text/html"); a.StatusCode != http.StatusSeeOther || a.Header.Get("Location") != "/explore" {
		t.Errorf("GET /: %s to %s", a.Status, a.Header.Get("Location"))
	}
	b.open(w.url + "/no/such/<b>page</b>")
	b.wait("the error page", `document.querySelector("h1")?.textContent === "There is no such page" && !document.querySelector("b")`)
	b.shot("error-404")
	b.click("main a.primary")
	b.wait("the way back", `location.pathname === "/explore"`)
	b.wait("an empty collector to say so", `!document.querySelector("#notice").hidden`)
	b.shot("explore-nothing")
	b.open(w.url + "/targets")
	b.wait("no agent to be said", `document.querySelector("#notice").textContent.includes("No agent has reported yet")`)
	b.shot("targets-nothing")
}

func testLoginPage(t *testing.T, br *browser) {
	b := br.tab(t, 1440, 900, "status of 401")
	w := newFleetWorld(t, web.Options{Tokens: []web.Token{{Name: "ann", Hash: web.HashToken("s3cret"), Scopes: []web.Scope{web.ScopeRead, web.ScopeIngest}}}}, "Authorization: Bearer s3cret")
	b.open(w.url + "/explore?type=cpu")
	b.wait("the login page", `location.pathname === "/login" && document.activeElement.id === "token"`)
	b.key("wrong" + keyEnter)
	b.wait("why it was not taken", `document.querySelector("#token-error") && document.activeElement.id === "token"`)
	b.shot("login-refused")
	b.key("s3cret" + keyEnter)
	b.wait("the page asked for", `location.pathname === "/explore" && location.search === "?type=cpu"`)
	b.wait("the data", exploreReady)
	b.click(`form[action="/logout"] button`)
	b.wait("being signed out", `location.pathname === "/login"`)
}

func TestAssets(t *testing.T) {
	w := newWorld(t, web.Options{})
	page := string(w.get("/explore", "Accept: text/html").body)
	_, rest, ok := strings.Cut(page, `href="/assets/`)
	if !ok {
		t.Fatal("the page names no asset")
	}
	version, _, _ := strings.Cut(rest, "/")
	for _, c := range []struct{ path, contentType, cache string }{
		{version + "/explore.js", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{version + "/theme.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"},
		{version + "/icon.svg", "image/svg+xml", "public, max-age=31536000, immutable"},
		{"000000000000/explore.js", "text/javascript; charset=utf-8", "no-cache"},
	} {
		a := w.get("/assets/" + c.path)
		if a.StatusCode != http.StatusOK || a.Header.Get("Content-Type") != c.contentType || a.Header.Get("Cache-Control") != c.cache || len(a.body) == 0 {
			t.Errorf("%s: %s, %s, %s, %d bytes", c.path, a.Status, a.Header.Get("Content-Type"), a.Header.Get("Cache-Control"), len(a.body))
		}
	}
	etag := w.get("/assets/" + version + "/explore.js").Header.Get("ETag")
	if a := w.get("/assets/"+version+"/explore.js", "If-None-Match: "+etag); a.StatusCode != http.StatusNotModified {
		t.Errorf("a known asset is answered with %s", a.Status)
	}
	for _, path := range []string{"/explore.html", "/layout.html", "/..%2fpages.go", "/none.js"} {
		if a := w.get("/assets/" + version + path); a.StatusCode != http.StatusNotFound {
			t.Errorf("/assets/…%s: %s, want 404", path, a.Status)
		}
	}
}
