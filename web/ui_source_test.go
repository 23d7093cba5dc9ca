package web_test

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/web"
)

// grind spends its time in itself, in what is inlined and in what it calls.
//
//go:noinline
func grind(until time.Time) (sum float64) {
	for time.Now().Before(until) {
		for i := range 20_000 {
			sum += float64(gcd(i+1, 360)) // inlined
			if i%2 == 0 {
				sum += crush(i) // called
			}
		}
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

//go:noinline
func crush(n int) (sum float64) {
	for i := range 20 {
		sum += 1 / float64(n+i+1)
	}
	return sum
}

const (
	grindName  = "github.com/goinquest/inquest/web_test.grind"
	crushName  = "github.com/goinquest/inquest/web_test.crush"
	otherBuild = "feedfacefeedfacefeedfacefeedfacefeedface"
)

// grinders is a collector with a profile of grind in this program, by
// addresses, and a smaller one in another build, by names.
func grinders(t *testing.T) (w *world, build string) {
	t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("not disassembled")
	}
	w = newWorld(t, web.Options{})
	p := profiled(t, func() { grind(time.Now().Add(1200 * time.Millisecond)) })
	build = p.Mapping[0].BuildID
	w.push("service=grinder&instance=a&kind=cpu", addressesOf(t, p))
	p = profiled(t, func() { grind(time.Now().Add(300 * time.Millisecond)) })
	p.Mapping[0].BuildID = otherBuild
	w.push("service=grinder&instance=b&kind=cpu", encoded(t, p))
	return w, build
}

// sourceReady holds once the lines of a function are shown.
func sourceReady(function string) string {
	return fmt.Sprintf(`%s && !document.querySelector("#source").hidden && !document.querySelector("#listings").hidden && document.querySelector("#source-title").title === %q && document.querySelectorAll("#lines .l-line").length > 0`, exploreReady, function)
}

func testExploreSource(t *testing.T, br *browser) {
	b := br.tab(t, 1440, 900, "status of 404")
	w, build := grinders(t)
	q := url.Values{"query": {`{service="grinder"}`}, "type": {"cpu"}, "from": {"-1h"}, "until": {"now"}}
	address := w.url + "/explore?" + q.Encode()
	b.open(address)
	b.wait("what has no names, with a way to the builds", exploreReady+` && document.querySelector('#coverage a.flag[href="/builds"]')?.textContent.includes("without names")`)

	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	w.mustPut(build, exe)
	text, err := os.ReadFile("ui_source_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, file, _, _ := runtime.Caller(0)
	w.mustPut(build, sourceZip(t, build, file, text))
	var a sourceAnswer
	w.getJSON("/api/v1/source?"+q.Encode()+"&function="+url.QueryEscape(grindName), &a)
	if a.Build != build || len(a.Instructions) == 0 {
		t.Fatalf("build %s, %d instructions, want build %s", a.Build, len(a.Instructions), build)
	}

	// From the table, by keyboard.
	b.reload()
	b.wait("the row of the function", exploreReady+fmt.Sprintf(` && [...document.querySelectorAll("#table-pane td.name")].some((td) => td.title.startsWith(%q))`, grindName))
	eval[any](b, fmt.Sprintf(`[...document.querySelectorAll("#table-pane td.name")].find((td) => td.title.startsWith(%q)).closest("tr").focus()`, grindName))
	eval[any](b, fmt.Sprintf(`{ const tr = [...document.querySelectorAll("#table-pane td.name")].find((td) => td.title.startsWith(%q)).closest("tr"); tr.click(); }`, grindName))
	b.focus("#table-pane tr.picked")
	b.shortcut("o")
	b.wait("the source", sourceReady(grindName))
	if got := b.param("source"); got != grindName {
		t.Errorf("source=%q in the address, want %q", got, grindName)
	}
	b.shot("source-light")

	testSourceMarks(t, b, &a, file)
	testSourceTargets(t, b)
	testSourceBuilds(t, b, build)
	b.key(keyEscape)
	b.wait("table and graph", `!location.search.includes("source=") && document.querySelector("#source").hidden && document.querySelector("#panes").offsetHeight > 100`)

	// From the graph, and at other sizes.
	b.focus("#flame")
	for range 2 {
		b.key(keyDown)
	}
	b.shortcut("o")
	b.wait("the source of a frame", `location.search.includes("source=") && !document.querySelector("#source").hidden`)
	q.Set("source", grindName)
	testSourceLooks(t, b, w.url+"/explore?"+q.Encode())
}

// testSourceMarks chooses lines and instructions.
func testSourceMarks(t *testing.T, b *tab, a *sourceAnswer, file string) {
	t.Helper()
	own := map[int]int{} // line → instructions
	inlined := 0
	for _, in := range a.Instructions {
		if n := max(in.OwnLine, 0); n > 0 {
			own[n]++
			inlined = n
		} else {
			own[in.Line]++
		}
	}
	if inlined == 0 {
		t.Fatal("nothing is inlined in the function")
	}
	row := fmt.Sprintf(`[...document.querySelectorAll("#lines .l-line")].find((r) => r.querySelector(".l-no").textContent === "%d" && r.querySelector(".l-text").textContent.includes("// inlined"))`, inlined)
	b.wait("the line with what is inlined", row)
	eval[any](b, row+`.click()`)
	b.wait("the line in the address", fmt.Sprintf(`new URLSearchParams(location.search).get("at") === "%s:%d"`, file, inlined))
	marked := `document.querySelectorAll("#code .l-code.on").length`
	if got := eval[int](b, marked); got == 0 || got > own[inlined] {
		t.Errorf("%d instructions are marked, the line has %d", got, own[inlined])
	}
	b.shot("source-line")
	b.reload()
	b.wait("the same line after a reload", sourceReady(grindName)+` && document.querySelector("#lines .l-line.on") && `+marked+` > 0`)

	b.focus("#code")
	b.key(keyDown)
	b.wait("an instruction in the address", `new URLSearchParams(location.search).get("at").startsWith("0x") && document.querySelectorAll("#lines .l-line.on").length === 1`)
	if got := eval[int](b, marked); got != 1 {
		t.Errorf("%d instructions are marked, want the chosen one", got)
	}
}

// testSourceTargets follows a call and comes back.
func testSourceTargets(t *testing.T, b *tab) {
	t.Helper()
	call := fmt.Sprintf(`document.querySelector('#code [data-target=%q]')`, crushName)
	eval[any](b, `document.querySelector("#code").scrollTop = 0`)
	for range 40 {
		if eval[bool](b, call+" !== null") {
			break
		}
		eval[any](b, `document.querySelector("#code").scrollTop += 200; new Promise(requestAnimationFrame)`)
	}
	b.wait("the call", call)
	eval[any](b, call+".click()")
	b.wait("the called function", sourceReady(crushName)+` && document.querySelector("#code .l-code")`)
	eval[any](b, "history.back()")
	b.wait("the caller again", sourceReady(grindName))
}

// testSourceBuilds chooses the other build, of which there is nothing but a
// profile.
func testSourceBuilds(t *testing.T, b *tab, build string) {
	t.Helper()
	if got := eval[[]string](b, `[...document.querySelectorAll("#build option")].map((o) => o.value)`); strings.Join(got, " ") != build+" "+otherBuild {
		t.Errorf("builds to choose from: %q", got)
	}
	b.set("#build", otherBuild, "change")
	b.wait("the other build", sourceReady(grindName)+fmt.Sprintf(` && new URLSearchParams(location.search).get("build") === %q && !document.querySelector("#code-none").hidden`, otherBuild))
	for selector, want := range map[string]string{"#code-none": "inquest push ./bin", "#source-notes": "inquest push -source . ./bin"} {
		if got := b.text(selector); !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q in it", selector, got, want)
		}
	}
	b.shot("source-nothing")
	eval[any](b, "history.back()")
	b.wait("the build before", `!location.search.includes("build=") && document.querySelectorAll("#code .l-code").length > 0`)
}

// testSourceLooks looks at both themes and several widths.
func testSourceLooks(t *testing.T, b *tab, address string) {
	t.Helper()
	b.prefer("dark")
	b.open(address)
	b.wait("the source in dark", sourceReady(grindName))
	b.shot("source-dark")
	b.prefer("light")
	for _, width := range []int{360, 768, 2560} {
		b.resize(width, 900)
		b.open(address)
		b.wait("the source", sourceReady(grindName))
		b.shot(fmt.Sprint("source-", width))
		if width < 800 {
			eval[any](b, `document.querySelector("#source").scrollIntoView()`)
			b.shot(fmt.Sprintf("source-%d-down", width))
		}
		if nameless := eval[[]string](b, namelessControls); len(nameless) > 0 {
			t.Errorf("controls without a name for screen readers: %q", nameless)
		}
		if wide := eval[int](b, "document.scrollingElement.scrollWidth"); wide > width {
			t.Errorf("the source is %d px wide in a window of %d", wide, width)
		}
	}
	b.open(address + "&build=0123456789")
	b.wait("that the build has nothing of it", `!document.querySelector("#source-notice").hidden`)
	b.shot("source-none")
	b.resize(1440, 900)
}

func testExploreSourceOfLevels(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	_, q := etcd(w)
	q.Set("type", "inuse_space")
	var top topAnswer
	w.getJSON("/api/v1/top?"+q.Encode(), &top)
	b.open(w.url + "/explore?" + q.Encode())
	b.wait("the data", exploreReady)
	b.click("#open-source")
	b.wait("the source of the first row", sourceReady(top.Rows[0].Name))
	if got := b.text("#source-notes"); !strings.Contains(got, "plain sums over 6 single profiles") {
		t.Errorf("the notes %q do not say that these are sums", got)
	}
	b.shot("source-levels")
	b.set("#agg", "last", "change")
	b.wait("the last profiles", sourceReady(top.Rows[0].Name)+` && !document.querySelector("#source-notes").textContent.includes("sums")`)
}

// testListingOfManyLines scrolls through 20,000 lines, one screen per frame.
func testListingOfManyLines(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newFleetWorld(t, web.Options{})
	_, q := etcd(w)
	q.Set("source", "runtime.mallocgc")
	b.open(w.url + "/explore?" + q.Encode())
	b.wait("the page", exploreReady)
	took := eval[struct{ Show, Step, Rows float64 }](b, `(async () => {
		const base = document.querySelector('script[src*="layout.js"]').src.replace("layout.js", "");
		const { Listing } = await import(base + "listing.js");
		document.querySelector("#listings").hidden = false;
		const box = document.querySelector("#lines");
		const list = new Listing(box, { pick() {}, follow() {}, known: () => true });
		const rows = [];
		for (let i = 0; i < 20000; i++) rows.push({ kind: "line", key: "f.go:" + i, self: i, cum: 2 * i, text: "\tif x := " + "y".repeat(i % 300) + " {", number: String(i) });
		let at = performance.now();
		list.show(rows, "nanoseconds", 1e6, false);
		const Show = performance.now() - at;
		const steps = [];
		let Rows = 0;
		for (let i = 0; i < 200; i++) {
			await new Promise(requestAnimationFrame);
			at = performance.now();
			box.scrollTop = i * 97 * 20;
			list.plan();
			box.getBoundingClientRect();
			box.scrollHeight;
			steps.push(performance.now() - at);
			Rows = Math.max(Rows, box.querySelectorAll(".l-row").length);
		}
		steps.sort((a, b) => a - b);
		return { Show, Step: steps[190], Rows };
	})()`)
	t.Logf("20,000 lines: shown in %.1f ms, 95th percentile of a step %.1f ms, at most %.0f rows in the page", took.Show, took.Step, took.Rows)
	if took.Rows > 150 || took.Step > 50 {
		t.Errorf("a step takes %.1f ms with %.0f rows in the page", took.Step, took.Rows)
	}
}
