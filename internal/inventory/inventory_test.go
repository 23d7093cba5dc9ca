package inventory_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/inventory"
	"github.com/goinquest/inquest/internal/remote"
)

const listing = `{"values":[
{"id":"3f2a000000000000000000000000000000000001","go_version":"go1.26.8","version":"v1.4.0","module":"example.com/shop","path":"example.com/shop/cmd/shop",
 "modules":[{"path":"golang.org/x/net","version":"v0.22.0","replace":{"path":"../net"}}],
 "code":"dwarf","last_seen":"2026-11-21T11:59:30Z","services":[
  {"service":"cart","first":"2026-11-20T12:00:00Z","last":"2026-11-21T11:59:30Z"},{"service":"desk","first":"2026-11-18T12:00:00Z","last":"2026-11-21T11:00:00Z"},
  {"service":"east","first":"2026-11-20T12:00:00Z","last":"2026-11-21T11:00:00Z"},{"service":"fair","first":"2026-11-20T12:00:00Z","last":"2026-11-21T11:00:00Z"}],
 "binaries":[{"id":"3f2a000000000000000000000000000000000001","kind":"executable","arch":"amd64","bytes":12300000,"stored_bytes":4500000,"source":"ci","by":"build-host","sha256":"aa","uploaded":"2026-11-18T12:00:00Z"}]},
{"id":"3f2b000000000000000000000000000000000002","go_version":"go1.25","revision":"0123456789abcdef0123","modified":true,
 "code":"missing","services":[],"binaries":[]},
{"id":"go-77aa","code":"names","conflict":true,"services":[],"binaries":[]}]}`

// serve is a collector that knows three builds.
func serve(t *testing.T) *remote.Client {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/builds" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, listing)
	}))
	t.Cleanup(s.Close)
	c, err := remote.New(remote.Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestWrite(t *testing.T) {
	builds, err := inventory.Ask(t.Context(), serve(t), inventory.Query{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := inventory.Write(&b, builds, now); err != nil {
		t.Fatal(err)
	}
	want := `BUILD            SERVICES                      RELEASE             REVISION            GO      FIRST SEEN  LAST SEEN  STORED
3f2a00000000000  cart, desk, east, and 1 more  v1.4.0              -                   1.26.8  3d ago      30s ago    dwarf
3f2b00000000000  -                             0123456789ab+dirty  0123456789ab+dirty  1.25    -           -          no
go-77aa          -                             -                   -                   -       -           -          names, conflict
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestOne(t *testing.T) {
	c := serve(t)
	for id, want := range map[string]string{"3f2a": "3f2a000000000000000000000000000000000001", "go-77": "go-77aa", "77aa": "go-77aa"} {
		builds, err := inventory.Ask(t.Context(), c, inventory.Query{ID: id})
		if err != nil || len(builds) != 1 || builds[0].ID != want {
			t.Errorf("%s: %d builds, %v", id, len(builds), err)
		}
	}
	for id, want := range map[string]error{"3f2": inquest.ErrInvalid, "4": inquest.ErrNotFound} {
		if _, err := inventory.Ask(t.Context(), c, inventory.Query{ID: id}); !errors.Is(err, want) {
			t.Errorf("%s: %v", id, err)
		}
	}
	builds, err := inventory.Ask(t.Context(), c, inventory.Query{ID: "3f2a"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := inventory.WriteOne(&b, &builds[0], now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"module   example.com/shop v1.4.0\n", "service  desk  first seen 3d ago, last 1h ago\n",
		"file     executable, amd64, 12.3 MB on disk 4.5 MB, by build-host (ci) 3d ago, SHA-256 aa\n", "golang.org/x/net  v0.22.0  => ../net",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
