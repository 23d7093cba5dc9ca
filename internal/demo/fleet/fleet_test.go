package fleet_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/goinquest/inquest/internal/demo/fleet"
)

// service is one service running in this process.
type service struct {
	url string
	in  *io.PipeWriter
	end chan error
}

func start(t *testing.T, name, release string) *service {
	t.Helper()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	s := &service{in: inW, end: make(chan error, 1)}
	go func() { s.end <- fleet.Main(name, release, inR, outW) }()
	line, err := bufio.NewReader(outR).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s.url = strings.TrimSpace(line)
	return s
}

func (s *service) tell(t *testing.T, peers fleet.Peers) {
	t.Helper()
	if err := json.NewEncoder(s.in).Encode(peers); err != nil {
		t.Fatal(err)
	}
}

func (s *service) stop(t *testing.T) {
	t.Helper()
	s.in.Close()
	if err := <-s.end; err != nil {
		t.Errorf("service ended with %v", err)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", url, resp.Status, err, body)
	}
	return string(body)
}

func TestReleasesAnswerAlike(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer http.DefaultClient.CloseIdleConnections()
	v1, v2 := start(t, fleet.Catalog, "v1"), start(t, fleet.Catalog, "v2")
	for _, s := range []*service{v1, v2} {
		defer s.stop(t)
		s.tell(t, nil)
	}
	a, b := get(t, v1.url+"/items?word=amber"), get(t, v2.url+"/items?word=amber")
	if diff := cmp.Diff(a, b); diff != "" || len(a) < 100 {
		t.Errorf("catalog v1 and v2 differ or found nothing (-v1 +v2):\n%s", diff)
	}
}

func TestSearchFindsItsOwnWords(t *testing.T) {
	s := start(t, fleet.Search, "v1")
	defer s.stop(t)
	s.tell(t, nil)
	var hits []struct {
		Score float64
		Text  string
	}
	for range 2 { // computed, then kept
		if err := json.Unmarshal([]byte(get(t, s.url+"/similar?text=Amber+wool")), &hits); err != nil {
			t.Fatal(err)
		}
		if len(hits) == 0 || !strings.Contains(hits[0].Text, "amber") || !strings.Contains(hits[0].Text, "wool") {
			t.Errorf("best hit does not have both words: %+v", hits)
		}
	}
}

func TestOrder(t *testing.T) {
	s := start(t, fleet.Checkout, "v2")
	defer s.stop(t)
	resp, err := http.Post(s.url+"/order", "application/json", strings.NewReader(`{"customer":7,"items":[{"price":120},{"price":80}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var o struct{ Total, Customer int }
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.Total != 200 || o.Customer != 7 {
		t.Errorf("order = %+v, %v; want 200 cents of customer 7", o, err)
	}
}

// TestCustomers sees that checkout's own load reaches the other services.
func TestCustomers(t *testing.T) {
	catalog, search, checkout := start(t, fleet.Catalog, "v2"), start(t, fleet.Search, "v2"), start(t, fleet.Checkout, "v1")
	peers := fleet.Peers{fleet.Catalog: {catalog.url}, fleet.Search: {search.url}}
	for _, s := range []*service{catalog, search, checkout} {
		defer s.stop(t)
		s.tell(t, peers)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(get(t, checkout.url+"/debug/pprof/goroutine?debug=1"), "awaitPayment") {
		if time.Now().After(deadline) {
			t.Fatal("no order waits for its payment after 10 s")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestUnknownService(t *testing.T) {
	if err := fleet.Main("nonesuch", "v1", strings.NewReader(""), io.Discard); err == nil {
		t.Error("a service that does not exist was started")
	}
}
