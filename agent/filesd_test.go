package agent_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/google/go-cmp/cmp"
)

func TestFileDiscoveryWithRelabelling(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	srv := httptest.NewServer(&counter{t: t})
	defer srv.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "targets.json")
	write := func(text string) {
		t.Helper()
		temp := file + ".new"
		if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, file); err != nil {
			t.Fatal(err)
		}
	}
	write(`[{"targets": ["` + addr(srv) + `", "drop.me:1"], "labels": {"env": "test", "app": "cart", "version": "v7"}}]`)
	o := c.options(t)
	o.Config = decode(t, `
labels: {zone: a, env: common}
scrape_configs:
- job_name: files
  scrape_interval: 1s
  kinds: [heap]
  path_prefix: /none
  file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
  relabel_configs:
  - {source_labels: [__address__], regex: "drop.*", action: drop}
  - {source_labels: [app], target_label: service_name}
  - {source_labels: [version], target_label: release}
  - {action: labeldrop, regex: app|version}
  - {target_label: instance, replacement: cart-0}
  - {target_label: __pprof_path__, replacement: /custom/pprof/}
  - {target_label: __param_secret, replacement: x}
`)
	o.Config.SetDirectory(dir)
	a, _ := start(t, o)
	eventually(t, "a profile", func() bool { return len(c.profiles("")) > 0 })
	if n := len(a.Targets()); n != 1 {
		t.Fatalf("targets %+v", a.Targets())
	}
	got := a.Targets()[0]
	want := inquest.Target{
		ID: got.ID, Service: "cart", Instance: "cart-0", Release: "v7", Build: got.Build, Process: got.Process,
		Labels: map[string]string{"env": "test", "zone": "a"}, URL: srv.URL + "/custom/pprof/",
		Source: "file", State: inquest.TargetUp, Scrapes: got.Scrapes,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	q := c.profiles("")[0].Query
	if q.Get("release") != "v7" || q.Get("label.env") != "test" || q.Get("instance") != "cart-0" || q.Get("build") != "abcd" {
		t.Errorf("sent as %v", q)
	}

	before := a.Targets()[0].Scrapes[0].Scrapes
	if err := a.Reload(o.Config); err != nil {
		t.Fatal(err)
	}
	if ts := a.Targets(); len(ts) != 1 || ts[0].Scrapes[0].Scrapes < before {
		t.Errorf("the target did not outlive a reload: %+v", ts)
	}
	write(`[{"targets": ["` + addr(srv) + `"], "labels": {"app": "basket"}}]`)
	eventually(t, "the changed file counts", func() bool {
		ts := a.Targets()
		return len(ts) == 1 && ts[0].Service == "basket" && ts[0].Labels["env"] == "common"
	})
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the removed file counts", func() bool { return len(a.Targets()) == 0 })
}
