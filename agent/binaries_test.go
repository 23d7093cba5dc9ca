package agent_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent"
)

// An agent uploads what it runs, with its id and token, says in its report
// what goes wrong, and tries again when it is asked again.
func TestUploadOfExecutables(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	o := c.options(t)
	o.Token = "secret"
	o.Config = agent.Config{Self: agent.SelfConfig{Enabled: true, Schedule: agent.Schedule{Kinds: []inquest.Kind{inquest.KindGoroutine}}}}
	var allowed atomic.Bool
	c.set(func(w http.ResponseWriter, r *http.Request) bool {
		id, ok := strings.CutPrefix(r.URL.Path, "/base/api/v1/builds/")
		if !ok {
			return false
		}
		if r.Method != http.MethodPut || r.Header.Get(inquest.HeaderAgent) == "" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s with headers %v", r.Method, r.Header)
		}
		if !allowed.Load() {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		exe, err := os.Executable()
		if err != nil {
			t.Error(err)
		}
		info, err := os.Stat(exe)
		if want := fmt.Sprintf("bytes */%d", info.Size()); err != nil || r.Header.Get("Content-Range") != want {
			t.Errorf("Content-Range %q, want %q (%v)", r.Header.Get("Content-Range"), want, err)
		}
		fmt.Fprintf(w, `{"id":%q,"sha256":%q,"bytes":%d}`, id, r.Header.Get(inquest.HeaderSHA256), info.Size())
		return true
	})
	a, _ := start(t, o)
	var id string
	eventually(t, "the agent knows its build", func() bool {
		for _, b := range a.Report().Builds {
			id = b.ID
		}
		return id != ""
	})
	c.mu.Lock()
	c.missing = []string{id}
	c.mu.Unlock()
	eventually(t, "the refusal is told", func() bool {
		return strings.Contains(a.Report().Upload.LastError, id) && strings.Contains(a.Report().Upload.LastError, "403")
	})
	allowed.Store(true)
	c.mu.Lock()
	c.missing = []string{id, "00ff"}
	c.mu.Unlock()
	eventually(t, "it is uploaded, and nothing else", func() bool {
		u := a.Report().Upload
		return u.Uploaded == 1 && strings.HasPrefix(u.LastError, "build 00ff: no process")
	})
	if u := a.Report().Upload; u.Waiting != 0 || u.Build != "" {
		t.Errorf("after the upload: %+v", u)
	}
}
