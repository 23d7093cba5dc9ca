package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/internal/corpus"
)

// send makes a request of a collector and returns the answer.
func send(t *testing.T, method, url string, body []byte) string {
	t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %s %v", method, url, resp.Status, raw, err)
	}
	return string(raw)
}

// served starts a collector on data and lists its services.
func served(t *testing.T, data string) string {
	t.Helper()
	url, stop := start(t, "-data", data, "-self-profile=false")
	awaitReady(t, url)
	out := send(t, http.MethodGet, url+"/api/v1/services", nil)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return out
}

func awaitReady(t *testing.T, url string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the collector is not ready", err)
		}
	}
}

func profileURL(base, service string) string {
	now := time.Now()
	q := url.Values{"service": {service}, "instance": {"a"}, "kind": {"cpu"}, "start": {now.Add(-time.Minute).Format(time.RFC3339)}, "end": {now.Add(-50 * time.Second).Format(time.RFC3339)}}
	return base + "/api/v1/profiles?" + q.Encode()
}

// TestRestoreDeletions deletes a service after a backup, and restores that with
// the collector's file of deletions, with its answer, with a damaged file, with
// nothing, and with something else.
func TestRestoreDeletions(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	url, stop := start(t, "-data", at("data"), "-self-profile=false")
	awaitReady(t, url)
	body := corpus.Load("cpu")[0].Data
	for _, service := range []string{"keep", "early", "late"} {
		send(t, http.MethodPost, profileURL(url, service), body)
	}
	send(t, http.MethodDelete, url+"/api/v1/data?service=early&reason=x", nil)
	collector := func(args ...string) (string, string, error) {
		var out, errs bytes.Buffer
		err := run(t.Context(), args, &out, &errs)
		return out.String(), errs.String(), err
	}
	if _, errs, err := collector("backup", "-url", url, "-o", at("backup")); err != nil {
		t.Fatal(errs, err)
	}
	send(t, http.MethodDelete, url+"/api/v1/data?service=late", nil)
	answer := send(t, http.MethodGet, url+"/api/v1/deletions", nil)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(at("data"), "store", "deletions.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		late          bool // it is there again
		out, errs     string
	}{
		{"file", string(file), false, "did 1 deletion again that was asked for after the backup: 1 profiles are hidden", ""},
		{"answer", answer, false, "did 1 deletion again", ""},
		{"damaged", strings.Replace(string(file), `"service":"early"`, `"service":"e_rly"`, 1), false, "did 1 deletion again", "line 1: checksum does not match"},
		{"none", "", true, "restored ", "what was deleted on request after 20"},
		{"other", string(file[:len(file)/4]), true, "", "want the file deletions.jsonl"},
	} {
		args := []string{"restore", "-i", at("backup"), "-data", at(c.name)}
		if c.content != "" {
			if err := os.WriteFile(at(c.name+".json"), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-deletions", at(c.name+".json"))
		}
		out, errs, err := collector(args...)
		if c.name == "other" {
			errs += fmt.Sprint(err)
		}
		if (err != nil) != (c.name == "other") || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Fatalf("%s: %v\n%s\n%s", c.name, err, out, errs)
		}
		if c.name == "other" {
			if _, err := os.Stat(at(c.name)); err == nil {
				t.Error("something was restored with a file that is none")
			}
			continue
		}
		if c.errs == "" && errs != "" {
			t.Errorf("%s: %s", c.name, errs)
		}
		services := served(t, at(c.name))
		if !strings.Contains(services, `"keep"`) || strings.Contains(services, `"early"`) || strings.Contains(services, `"late"`) != c.late {
			t.Errorf("%s: %s", c.name, services)
		}
	}
}
