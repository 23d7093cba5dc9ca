package web_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/web"
)

// report is what an agent with a good, a failing and a skipped target says.
func report(now time.Time) *inquest.AgentReport {
	scrape := func(kind inquest.Kind, err string) inquest.Scrape {
		return inquest.Scrape{Kind: kind, At: now.Add(-20 * time.Second), Next: now.Add(40 * time.Second), Duration: 10 * time.Second, Bytes: 48213, Error: err, Scrapes: 7}
	}
	return &inquest.AgentReport{
		ID: "node-1/a", Host: "node-1", Version: "v0.1.0", Protocol: inquest.ProtocolVersion, Started: now.Add(-time.Hour), Clock: now,
		Targets: []inquest.Target{
			{ID: "1", Service: "api", Instance: "10.0.0.1:6060", Source: "host", Build: "feedfacefeedfacefeedface", State: inquest.TargetUp, Scrapes: []inquest.Scrape{scrape(inquest.KindCPU, ""), scrape(inquest.KindHeap, "")}},
			{ID: "2", Service: "billing", Instance: "10.0.0.1:6061", Source: "static", State: inquest.TargetDown, Scrapes: []inquest.Scrape{scrape(inquest.KindCPU, "answers HTML, not a profile")}},
			{ID: "3", Service: "sshd", Source: "host", State: inquest.TargetSkipped, Reason: "no listening port answers /debug/pprof/"},
		},
		Spool:   inquest.Spool{QuotaBytes: 1 << 30, Shipped: 12},
		Capture: inquest.CaptureState{Mode: "socket"},
	}
}

func testTargetsPage(t *testing.T, br *browser) {
	b, w := br.tab(t, 1440, 900), newWorld(t, web.Options{})
	now := time.Now().UTC()
	if _, err := w.fleet.Report("node-1/a", report(now), "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	b.open(w.url + "/targets")
	b.wait("three targets", `document.querySelectorAll(".targets tbody tr").length === 3`)
	page := b.text("main")
	for _, want := range []string{"1 agent · 3 targets · 1 up · 1 down · 1 skipped", "node-1", "v0.1.0", "answers HTML, not a profile", "no listening port answers /debug/pprof/", "47.1 KiB", "10 s", "12 shipped"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	if got := eval[string](b, `document.querySelector('a[href^="/builds/"]').getAttribute("href") + " " + document.querySelector('a[href^="/builds/"]').textContent`); got != "/builds/feedfacefeedfacefeedface feedfacefeed" {
		t.Errorf("the link to the build is %q", got)
	}
	b.shot("targets")

	b.click("#problems")
	b.wait("only the failing one", `document.querySelectorAll(".targets tbody tr").length === 1 && document.querySelector(".targets tbody").textContent.includes("billing") && location.search === "?problems=1"`)
	b.click("#problems")
	b.shortcut("/")
	b.key("sshd")
	b.wait("the filter", `document.querySelectorAll(".targets tbody tr").length === 1 && location.search === "?filter=sshd"`)
	b.set("#filter", "", "input")
	b.wait("all of them again", `document.querySelectorAll(".targets tbody tr").length === 3`)

	// Profile now: this is the agent that gets the command.
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		commands, err := w.fleet.Next(ctx, "node-1/a", patience)
		for _, c := range commands {
			err = w.fleet.Done("node-1/a", c.ID, &inquest.CommandResult{Service: "api", Kind: c.Kind, Start: now})
		}
		done <- err
	}()
	b.click(".targets tbody tr button")
	b.wait("the dialog", `document.querySelector("#profile-dialog").open`)
	b.click("#profile-go")
	b.wait("the result", `document.querySelector("#profile-result a")`)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	link := eval[string](b, `document.querySelector("#profile-result a").getAttribute("href")`)
	for _, want := range []string{"/explore?", "type=cpu", "10.0.0.1", url.QueryEscape(now.Add(-time.Second).Format("15:04:05"))} {
		if !strings.Contains(link, want) {
			t.Errorf("link to the result %q lacks %q", link, want)
		}
	}
	b.shot("targets-profiled")
	b.click("#profile-close")

	// Loading again by itself leaves the focus where it is.
	eval[any](b, `document.querySelector('[data-key="node-1/a/2/now"]').focus()`)
	second := report(now)
	second.Targets[0].Service = "api-renamed"
	if _, err := w.fleet.Report("node-1/a", second, "10.0.0.1"); err != nil {
		t.Fatal(err)
	}
	b.wait("the newer report", `document.querySelector(".targets tbody").textContent.includes("api-renamed")`)
	if got := eval[string](b, `document.activeElement.dataset.key ?? document.activeElement.tagName`); got != "node-1/a/2/now" {
		t.Errorf("after loading again the focus is on %s", got)
	}
}
