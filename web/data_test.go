package web_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/web"
)

// TestDeleteData deletes over HTTP what was pushed, and reads who did it.
func TestDeleteData(t *testing.T) {
	w := newWorld(t, web.Options{})
	at := recent()
	w.push("service=shop&instance=h:80&kind=cpu", cpuBody(at))
	w.push("service=cart&instance=h:80&kind=cpu", cpuBody(at))
	for path, says := range map[string]string{
		"/api/v1/data":                                                  "needs a service",
		"/api/v1/data?from=-1h":                                         "needs a service",
		"/api/v1/data?service=shop&from=":                               "from is empty",
		"/api/v1/data?service=shop&from=-1h&until=-2h":                  "ends before it begins",
		"/api/v1/data?service=shop&form=-1h":                            "did you mean from",
		"/api/v1/data?service=shop&dry_run=perhaps":                     "want true or false",
		"/api/v1/data?service=shop&reason=" + strings.Repeat("x", 1001): "1000 are allowed",
	} {
		wantError(t, w.do("DELETE", path, nil), 400, "invalid", says)
	}
	type deletion struct {
		Number      uint64
		Service, By string
		Profiles    int64
		Done        *time.Time
	}
	remove := func(params string) (d deletion) {
		t.Helper()
		a := w.do("DELETE", "/api/v1/data?"+params, nil)
		if err := json.Unmarshal(a.body, &d); err != nil || a.StatusCode != 200 {
			t.Fatalf("%s: %s, %v", params, a.body, err)
		}
		return d
	}
	d := remove("service=shop&from=-1h&dry_run=true")
	if d.Number != 0 || d.Service != "shop" || d.Profiles != 1 {
		t.Fatalf("dry run: %+v", d)
	}
	services := func() (names []string) {
		infos, err := w.store.Services(context.Background(), inquest.Window{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range infos {
			names = append(names, s.Name)
		}
		return names
	}
	if got := services(); len(got) != 2 {
		t.Fatalf("a dry run deleted: %v", got)
	}
	d = remove("service=shop&from=-1h&reason=a+secret")
	if d.Number != 1 || d.Profiles != 1 || d.By == "" {
		t.Fatalf("%+v", d)
	}
	if got := services(); len(got) != 1 || got[0] != "cart" {
		t.Fatalf("left: %v", got)
	}
	if !strings.Contains(w.log.String(), `action="delete data"`) {
		t.Errorf("no audit: %s", w.log)
	}
	if err := w.store.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	var list struct{ Values []deletion }
	w.getJSON("/api/v1/deletions", &list)
	if len(list.Values) != 1 || list.Values[0].Done == nil || list.Values[0].Number != 1 {
		t.Fatalf("%+v", list)
	}
	if ds, err := w.store.Deletions(); err != nil || len(ds) != 1 || ds[0].Reason != "a secret" {
		t.Fatalf("%+v, %v", ds, err)
	}
}
