package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/store"
)

func newCrashes(t *testing.T, c ingest.Capture, clock time.Time) (*ingest.Crashes, *store.Store) {
	t.Helper()
	s, err := store.Open(context.Background(), store.Options{Dir: t.TempDir(), Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	x, err := ingest.NewCrashes(ingest.CrashesOptions{Store: s, Now: func() time.Time { return clock }, Capture: c})
	if err != nil {
		t.Fatal(err)
	}
	return x, s
}

func death(service string, at time.Time) inquest.Crash {
	return inquest.Crash{ID: inquest.CrashID("boot/" + service), Kind: inquest.CrashDeath, At: at, Service: service, Process: "boot/" + service, Class: inquest.ClassUnknown, Tier: inquest.TierNone, Source: []string{"client"}}
}

// TestCrashClock corrects the times of a sender whose clock is wrong.
func TestCrashClock(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	x, _ := newCrashes(t, ingest.Capture{}, now)
	sent := now.Add(3 * time.Hour)
	out, err := x.Put(context.Background(), []inquest.Crash{death("shop", sent.Add(-time.Minute))}, sent)
	if err != nil || !out[0].At.Equal(now.Add(-time.Minute)) {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := x.Put(context.Background(), []inquest.Crash{death("cart", sent)}, time.Time{}); !errors.Is(err, inquest.ErrInvalid) || !strings.Contains(err.Error(), "crash 0: ") {
		t.Errorf("of the future: %v", err)
	}
}

// TestTextJoins has the text of a process say what its crash was.
func TestTextJoins(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	x, s := newCrashes(t, ingest.Capture{}, now)
	c := death("shop", now.Add(-time.Second))
	if _, err := x.Put(context.Background(), []inquest.Crash{c}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	text := "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [select (no cases)]:\nmain.main()\n\t/src/main.go:3 +0x4\n"
	for range 2 {
		got, err := x.Text(context.Background(), &ingest.TextPush{Service: "shop", Process: c.Process, At: c.At, Text: []byte(text), By: "stderr"})
		if err != nil || got.ID != c.ID || !strings.HasPrefix(got.Class, "fatal:") || got.Class == inquest.ClassUnknown || got.Tier != inquest.TierText || fmt.Sprint(got.Source) != "[client stderr]" {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if st := s.CrashStats(); st.Records != 1 || st.Deaths != 1 || st.Groups != 1 {
		t.Errorf("%+v", st)
	}
	if _, err := x.PutText(context.Background(), strings.Repeat("0", 32), []byte(text)); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("text of no crash: %v", err)
	}
}

// TestCapture asks what is wanted by service.
func TestCapture(t *testing.T) {
	x, _ := newCrashes(t, ingest.Capture{Default: inquest.TierFull, Services: []ingest.ServiceCapture{{"payments", inquest.TierText}, {"test-*", inquest.TierNone}}}, time.Now())
	for service, want := range map[string]inquest.Tier{"shop": inquest.TierFull, "payments": inquest.TierText, "test-7": inquest.TierNone} {
		if got := x.Tier(service, "b1", "ab"); got != want {
			t.Errorf("%s: %s, want %s", service, got, want)
		}
	}
	if p := x.Policy(); p.Default != inquest.TierFull || len(p.Rules) != 2 || p.Rules[1].Tier != inquest.TierNone {
		t.Errorf("policy: %+v", p)
	}
	for _, c := range []ingest.Capture{{Default: "all"}, {Services: []ingest.ServiceCapture{{"", inquest.TierText}}}, {Services: []ingest.ServiceCapture{{"a", "x"}}}} {
		if err := x.SetCapture(c); !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := x.SetCapture(ingest.Capture{Enough: -1}); err != nil || x.Tier("shop", "b1", "ab") != inquest.TierText {
		t.Errorf("no cores wanted: %v", err)
	}
}

// TestOfferOfTheRest offers a full core of which an agent has the minicore
// left: nothing else is asked for.
func TestOfferOfTheRest(t *testing.T) {
	now := time.Now()
	x, s := newCrashes(t, ingest.Capture{Default: inquest.TierFull}, now)
	c := death("shop", now.Add(-time.Second))
	var image bytes.Buffer
	w, err := coredump.NewWriter(&image, &coredump.Header{
		Core: inquest.Core{Crash: c.ID, Tier: inquest.TierFull, Arch: "amd64"}, Machine: 62, Mini: 1,
		Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: 1 << 20, Size: 8 << 20}}},
		Extents:  []coredump.Extent{{Addr: 8 << 20, Size: 4096}, {Addr: 2 << 20, Size: 4 << 20}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("memory"), 4<<20)[:4096+4<<20]); err != nil {
		t.Fatal(err)
	}
	ledger, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	left := ledger.Header().Core
	left.Tier, left.Complete = inquest.TierMini, false
	c.Core, c.Tier = &left, inquest.TierMini
	ctx := context.Background()
	a, err := x.Offer(ctx, &inquest.CoreOffer{Crash: c, Ledger: ledger.Bytes()}, time.Time{}, "agent")
	if err != nil || a.Want != inquest.TierMini || !slices.Equal(a.Missing, [][2]int{{0, ledger.MiniBlocks()}}) {
		t.Fatalf("%+v, %v", a, err)
	}
	for n, b := range ledger.Blocks()[:ledger.MiniBlocks()] {
		if err := s.PutCoreBlock(ctx, a.ID, n, image.Bytes()[b.Offset:][:b.Stored]); err != nil {
			t.Fatal(err)
		}
	}
	a, err = x.Commit(ctx, a.ID)
	if err != nil || a.Core == nil || a.Core.Tier != inquest.TierMini {
		t.Fatalf("%+v, %v", a, err)
	}
	if got, err := s.Crash(c.ID); err != nil || got.Tier != inquest.TierMini || got.Core == nil {
		t.Errorf("%+v, %v", got, err)
	}
}
