//go:build linux

package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/discovery/file"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
)

// TestLook finds what is named, what a file names and what runs here, and
// asks for no profile.
func TestLook(t *testing.T) {
	t.Parallel()
	ch := runChild(t, []string{"OTEL_SERVICE_NAME=checkout"})
	mainPort, _, _ := strings.Cut(ch.line, " ")
	list := filepath.Join(t.TempDir(), "targets.json")
	if err := os.WriteFile(list, []byte(`[{"targets":["127.0.0.1:1"],"labels":{"service":"filed"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := hostConfig(ch.exe)
	conf.ScrapeConfigs = static([]inquest.Kind{inquest.KindHeap}, "127.0.0.1:2").ScrapeConfigs
	conf.ScrapeConfigs = append(conf.ScrapeConfigs, agent.ScrapeConfig{JobName: "files", FileSDConfigs: []*file.SDConfig{{Files: []string{list}}}})
	targets, err := agent.Look(t.Context(), agent.Options{Config: conf, Host: "testhost", Version: "v0"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, tg := range targets {
		got[tg.Instance] = tg.Source
		if tg.State != inquest.TargetPending || len(tg.Scrapes) != 0 {
			t.Errorf("target %+v was scraped", tg)
		}
	}
	want := map[string]string{"testhost:" + mainPort: "host", "127.0.0.1:1": "file", "127.0.0.1:2": "static"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}
