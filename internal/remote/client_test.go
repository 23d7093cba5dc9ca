package remote_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
)

func TestNewRefuses(t *testing.T) {
	for _, o := range []remote.Options{
		{},
		{URL: "127.0.0.1:7070"},
		{URL: "ftp://127.0.0.1"},
		{URL: "http://127.0.0.1/?x=y"},
		{URL: "http://127.0.0.1:7070", TokenFile: "none"},
		{URL: "http://127.0.0.1:7070", CAFile: "client_test.go"},
	} {
		if _, err := remote.New(o); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// What a refusal says decides whether and when a profile is sent again.
func TestRefusals(t *testing.T) {
	tests := []struct {
		status     int
		retryAfter string
		body       string
		want       remote.Refusal
		passing    bool
	}{
		{429, "1", `{"error":{"kind":"busy","message":"later"}}`, remote.Refusal{Status: 429, Kind: "busy", Message: "later", After: time.Second}, true},
		{503, "5", `{"error":{"kind":"unavailable","message":"not yet"}}`, remote.Refusal{Status: 503, Kind: "unavailable", Message: "not yet", After: 5 * time.Second}, true},
		{503, "7200", ``, remote.Refusal{Status: 503, Kind: "other", Message: "Service Unavailable", After: 30 * time.Second}, true},
		{507, "", `{"error":{"kind":"disk_full","message":"full"}}`, remote.Refusal{Status: 507, Kind: "disk_full", Message: "full"}, true},
		{400, "", `{"error":{"kind":"invalid","message":"old"}}`, remote.Refusal{Status: 400, Kind: "invalid", Message: "old"}, false},
		{413, "soon", `<html>`, remote.Refusal{Status: 413, Kind: "other", Message: "Request Entity Too Large"}, false},
	}
	for _, tt := range tests {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.retryAfter != "" {
				w.Header().Set("Retry-After", tt.retryAfter)
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		c, err := remote.New(remote.Options{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), "/", nil)
		var r *remote.Refusal
		if !errors.As(err, &r) {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, *r, cmpopts.IgnoreUnexported(remote.Refusal{})); diff != "" || r.Passing() != tt.passing {
			t.Errorf("%d: passing %v: %s", tt.status, r.Passing(), diff)
		}
		s.Close()
		if _, err = c.Get(t.Context(), "/", nil); !errors.As(err, &r) || r.Status != 0 || !r.Passing() {
			t.Errorf("without a server: %v", err)
		}
	}
}
