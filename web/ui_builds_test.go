package web_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/goinquest/inquest/web"
)

const (
	buildsReady = `document.querySelector("#rows").childElementCount > 0`
	buildReady  = `!document.querySelector("#parts").hidden && document.querySelector("#about").childElementCount > 2`
	firstCells  = `[...document.querySelectorAll("#rows a")].map((a) => a.title).join(" ")`
)

func testBuildsPage(t *testing.T, br *browser) {
	w, s := newShopWorld(t, web.Options{})
	b := br.tab(t, 1440, 900, "status of 400")
	b.open(w.url + "/builds")
	b.wait("four builds", `document.querySelectorAll("#rows tr").length === 4`)
	page := b.text("main")
	for _, want := range []string{
		"4 builds of 3 services · 1 binary missing · 1 conflict", s.clean.id[:12], "debug info", "names only", "missing", "dirty", "cart, checkout",
		"inquest push ./bin -to " + w.url,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.shot("builds")

	// Filters are in the address; what the collector refuses is said.
	b.click("#missing")
	b.wait("the missing one", `location.search === "?missing=1" && `+firstCells+` === "feedfacefeedfacefeedface"`)
	b.click("#missing")
	b.click("#dirty")
	b.wait("the dirty ones", `location.search === "?dirty=1" && document.querySelectorAll("#rows tr").length >= 1 && !`+firstCells+`.includes("feedface")`)
	b.click("#clear")
	b.wait("all of them", `location.search === "" && document.querySelectorAll("#rows tr").length === 4 && document.activeElement.id === "service"`)
	b.key("CART")
	b.wait("those of a service", fmt.Sprintf(`location.search === "?service=CART" && %s === %q`, firstCells, s.stripped.id))
	b.set("#service", "", "input")
	b.set("#module_below", "example.com/money", "change")
	b.wait("the error", `document.querySelector("#bar-error").textContent.includes("golang.org/x/net@v0.38.0") && document.querySelector("#module_below").ariaInvalid === "true"`)
	b.shot("builds-error")
	b.set("#module_below", "", "input")
	b.wait("no error", `document.querySelector("#bar-error").hidden && !document.querySelector("#module_below").ariaInvalid`)
	b.set("#go_below", "1.99", "change")
	b.wait("those with a version of Go", `location.search === "?go_below=1.99" && document.querySelectorAll("#rows tr").length === 3 && document.querySelector("#counts").textContent.includes("of 1 the modules are not known")`)
	b.set("#module", "no.such/module", "change")
	b.wait("nothing to be said", `document.querySelector("#notice h2")?.textContent === "Nothing matches" && document.querySelector("#list").hidden`)
	b.shot("builds-nothing")
	b.click("#notice button")
	b.wait("all of them again", `document.querySelectorAll("#rows tr").length === 4`)

	// By column, and the same after a reload; by keyboard to a build.
	b.focus(`[data-sort="code"]`)
	b.key(keyEnter)
	b.key(keyEnter)
	b.wait("the missing one first", `location.search === "?sort=-code" && `+firstCells+`.startsWith("feedface") && document.activeElement.dataset.sort === "code" && document.querySelector('th[aria-sort="descending"]').textContent === "Binary"`)
	b.reload()
	b.wait("the order after a reload", buildsReady+` && `+firstCells+`.startsWith("feedface")`)
	b.focus("#rows a")
	b.key(keyEnter)
	b.wait("the page of the build", `location.pathname === "/builds/feedfacefeedfacefeedface" && document.querySelector("#about")?.childElementCount > 0`)
	b.shot("build-missing")
	eval[any](b, "history.back()")
	b.wait("the way back", `location.search === "?sort=-code" && `+buildsReady)
}

func testBuildPage(t *testing.T, br *browser) {
	w, s := newShopWorld(t, web.Options{})
	b := br.tab(t, 1440, 900)
	b.open(w.url + "/builds/" + s.clean.id)
	b.wait("the build", buildReady)
	b.wait("its release", `document.querySelector("#about").textContent.includes("v1")`)
	page := b.text("main")
	for _, want := range []string{
		s.clean.id, "example.com/shop/cmd/checkout", "debug info", "checkout", "program", "exact", "CGO_ENABLED", "GOARCH",
		"example.com/money", "v1.2.0", "replaced", "a directory", "2 modules · 2 replaced", "without a profile (-pgo)",
		"dlv core checkout CORE", "DEBUGINFOD_URLS=" + w.url, shaOf(s.clean.data),
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.shot("build")
	b.click(`[aria-label="Copy the command to open it with delve"]`)
	b.wait("the copy to be said", `document.querySelector("#toast").textContent === "Command copied"`)
	b.shortcut("/")
	b.key("tax")
	b.wait("one module", `document.querySelectorAll("#modules tbody tr").length === 1 && location.search === "?module=tax"`)
	b.reload()
	b.wait("one module after a reload", buildReady+` && document.querySelectorAll("#modules tbody tr").length === 1`)
	if got := eval[int](b, `fetch(document.querySelector(".downloads a").href).then((r) => r.arrayBuffer()).then((a) => a.byteLength)`); got != len(s.clean.data) {
		t.Errorf("the download has %d bytes, want %d", got, len(s.clean.data))
	}
	b.click("#services a")
	b.wait("the profiles of the build", exploreReady+` && document.querySelector("#coverage").textContent.includes("1 profile")`)
	if got, want := b.param("query"), fmt.Sprintf(`{service="checkout", build="%s"}`, s.clean.id); got != want {
		t.Errorf("the link to explore asks for %s, want %s", got, want)
	}

	b.shot("explore-build")
	b.click(".chip a")
	b.wait("the way back to the build", fmt.Sprintf(`location.pathname === "/builds/%s" && %s`, s.clean.id, buildReady))
	b.open(w.url + "/builds/" + s.twins[0].id)
	b.wait("the conflict", buildReady+` && document.querySelectorAll("#binaries tbody tr").length === 2 && document.querySelector("#words").textContent.includes("conflict")`)
	b.shot("build-conflict")
	b.open(w.url + "/builds/" + url.PathEscape("odd/<b>id</b>"))
	b.wait("an unknown build", `document.querySelector("#notice h2")?.textContent === "This build is not known here" && !document.querySelector("h1 b")`)
	b.shot("build-unknown")
}

// testBuildPageWithTokens: where tokens are asked for, commands say where one goes.
func testBuildPageWithTokens(t *testing.T, br *browser) {
	scopes := []web.Scope{web.ScopeRead, web.ScopeIngest}
	w, s := newShopWorld(t, web.Options{Tokens: []web.Token{{Name: "ann", Hash: web.HashToken("s3cret"), Scopes: scopes}}}, "Authorization: Bearer s3cret")
	b := br.tab(t, 1440, 900, "status of 401")
	b.open(w.url + "/builds/" + s.clean.id)
	b.wait("the login page", `location.pathname === "/login" && document.activeElement.id === "token"`)
	b.key("s3cret" + keyEnter)
	b.wait("the build", `location.pathname.startsWith("/builds/") && `+buildReady)
	page := b.text("#open")
	for _, want := range []string{`-H "Authorization: Bearer $TOKEN"`, "DEBUGINFOD_URLS=http://inquest:$TOKEN@", "with the scope read"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	b.open(w.url + "/builds")
	b.wait("the command", buildsReady+` && document.querySelector("#push-command").textContent.includes(" -token-file FILE")`)
	b.open(w.url + "/builds/" + s.clean.id)
	b.wait("the build", buildReady)
	if got := b.text("#binaries"); !strings.Contains(got, "by ann") || strings.Contains(page, "s3cret") {
		t.Errorf("stored binaries %q, want who uploaded them, and nowhere the token", got)
	}
}

func testBuildsThemesAndWidths(t *testing.T, br *browser) {
	w, s := newShopWorld(t, web.Options{})
	b := br.tab(t, 1440, 1400)
	for _, p := range []struct{ name, path, ready string }{
		{"builds", "/builds", buildsReady},
		{"build", "/builds/" + s.clean.id, buildReady},
		{"build-conflict", "/builds/" + s.twins[0].id, buildReady},
	} {
		seen := map[string]bool{}
		for _, scheme := range []string{"light", "dark"} {
			b.prefer(scheme)
			for _, width := range []int{1440, 360, 768, 2560} {
				b.resize(width, 1400)
				b.open(w.url + p.path)
				b.wait("the data", p.ready)
				if nameless := eval[[]string](b, namelessControls); len(nameless) > 0 {
					t.Errorf("%s has controls without a name for screen readers: %q", p.name, nameless)
				}
				if wide := eval[int](b, "document.scrollingElement.scrollWidth"); wide > width {
					t.Errorf("%s is %d px wide in a window of %d", p.name, wide, width)
				}
				b.shot(fmt.Sprintf("%s-%s-%d", p.name, scheme, width))
			}
			seen[eval[string](b, `getComputedStyle(document.body).backgroundColor`)] = true
		}
		if len(seen) != 2 {
			t.Errorf("%s has the same background in light and dark: %v", p.name, seen)
		}
	}
}

func testBuildsEmpty(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newWorld(t, web.Options{})
	b.open(w.url + "/builds")
	b.wait("what to do", `document.querySelector("#notice").textContent.includes("No builds yet") && document.querySelector("#notice code").textContent === "inquest push ./bin -to " + location.origin`)
	b.shot("builds-empty")
}
