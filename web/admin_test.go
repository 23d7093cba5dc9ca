package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/web"
)

// pushSome stores profiles of three services.
func (w *world) pushSome() {
	w.t.Helper()
	for _, service := range []string{"shop", "cart", "mail"} {
		w.push("service="+service+"&instance=h1:80", cpuBody(recent()))
	}
}

// TestAdminCheck: the check of a running collector streams its progress and
// ends with the report.
func TestAdminCheck(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.pushSome()
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, deep := range []string{"", "?deep=true"} {
		resp, err := w.client.Post(w.url+"/api/v1/admin/check"+deep, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		progress := 0
		var report *store.CheckReport
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var l struct {
				Progress *store.CheckProgress
				Report   *store.CheckReport
			}
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				t.Fatal(err)
			}
			if l.Progress != nil {
				progress++
			}
			report = l.Report
		}
		if report == nil || !report.Whole() || !report.Online || report.Deep != (deep != "") || report.Blocks == 0 || progress == 0 {
			t.Errorf("%q: %d lines of progress, report %+v", deep, progress, report)
		}
	}
	if a := w.post("/api/v1/admin/check?dep=true", nil); a.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d: %s", a.StatusCode, a.body)
	}
}

// TestAdminBackup: the stream is a backup that can be restored, also when the
// other end has some of it; who stops reading stops it, and the next one works.
func TestAdminBackup(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.pushSome()
	a := w.get("/api/v1/admin/backup")
	if a.StatusCode != 200 || a.Header.Get("Content-Type") != "application/x-tar" || !strings.Contains(a.Header.Get("Content-Disposition"), ".tar") {
		t.Fatalf("status %d, %v", a.StatusCode, a.Header)
	}
	m, err := store.RestoreTar(t.Context(), bytes.NewReader(a.body), store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")})
	if err != nil || m.Profiles == 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	dir := t.TempDir()
	for round := range 2 {
		_, err := store.FetchBackup(t.Context(), dir, func(have map[string]int64) (io.ReadCloser, error) {
			if len(have) != round*m.Blocks {
				t.Errorf("round %d: has %v", round, have)
			}
			want, err := json.Marshal(map[string]any{"have": have})
			if err != nil {
				return nil, err
			}
			resp, err := w.client.Post(w.url+"/api/v1/admin/backup", "application/json", bytes.NewReader(want))
			if err != nil {
				return nil, err
			}
			return resp.Body, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	if resp, err := w.client.Head(w.url + "/api/v1/admin/backup"); err != nil || resp.StatusCode != 200 {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/api/v1/admin/backup", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	resp.Body.Close()
	for {
		if a := w.get("/api/v1/admin/backup"); a.StatusCode == 200 {
			break
		} else if a.StatusCode != http.StatusTooManyRequests {
			t.Fatalf("status %d: %s", a.StatusCode, a.body)
		}
	}
}

// TestAdminBackupCut: when a file cannot be read in the middle of the stream,
// the connection is cut.
func TestAdminBackupCut(t *testing.T) {
	w := newWorld(t, web.Options{})
	w.pushSome()
	if err := w.store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := w.dir + "/blocks"
	names, err := os.ReadDir(dir)
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	last := filepath.Join(dir, names[len(names)-1].Name())
	if err := errors.Join(os.Remove(last), os.Mkdir(last, 0o700)); err != nil {
		t.Fatal(err)
	}
	resp, err := w.client.Get(w.url + "/api/v1/admin/backup")
	if err != nil {
		return // cut before the first byte
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if resp.StatusCode == 200 && err == nil {
		t.Errorf("%d bytes came as if they were a backup", len(raw))
	}
	_, err = store.RestoreTar(t.Context(), bytes.NewReader(raw), store.RestoreOptions{Dir: filepath.Join(t.TempDir(), "store")})
	if !errors.Is(err, inquest.ErrInvalid) {
		t.Error(err)
	}
}
