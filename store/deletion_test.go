package store_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// marked is a profile with words of its own in every place that has text.
func marked(word string, n int) *pprof.Profile {
	m := &pprof.Mapping{ID: 1, Start: 0x1000, Limit: 0x9000, File: "/bin/" + word, BuildID: word + "-build", HasFunctions: true}
	shared := &pprof.Function{ID: 1, Name: "main.main", SystemName: "main.main", Filename: "main.go", StartLine: 3}
	own := &pprof.Function{ID: 2, Name: "main." + word, SystemName: "main." + word, Filename: word + ".go", StartLine: 7}
	l1 := &pprof.Location{ID: 1, Mapping: m, Address: 0x1100, Line: []pprof.Line{{Function: shared, Line: 4}}}
	l2 := &pprof.Location{ID: 2, Mapping: m, Address: 0x1200, Line: []pprof.Line{{Function: own, Line: 8}}}
	l3 := &pprof.Location{ID: 3, Address: 0x77}
	return &pprof.Profile{
		SampleType: []*pprof.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType: &pprof.ValueType{Type: "cpu", Unit: "nanoseconds"}, Period: 10_000_000, TimeNanos: int64(n + 1), DurationNanos: 5e9,
		Comments: []string{word + " comment"},
		Mapping:  []*pprof.Mapping{m}, Function: []*pprof.Function{shared, own}, Location: []*pprof.Location{l1, l2, l3},
		Sample: []*pprof.Sample{
			{Location: []*pprof.Location{l2, l1}, Value: []int64{int64(n%7 + 1), int64(n%7+1) * 10_000_000}, Label: map[string][]string{"who": {word + "-label"}}},
			{Location: []*pprof.Location{l1}, Value: []int64{2, 20_000_000}, NumLabel: map[string][]int64{word + "-num": {int64(n)}}},
			{Location: []*pprof.Location{l3, l1}, Value: []int64{1, 10_000_000}},
		},
	}
}

// marks appends profiles with words in them.
type marks struct {
	*shelf
	have map[inquest.Key]mark
}

type mark struct {
	service, word string
	at            time.Time
	want          map[string][]int64
}

func newMarks(tb testing.TB, s *store.Store, c *clock) *marks {
	return &marks{&shelf{tb: tb, s: s, c: c, d: profile.NewDecoder(profile.Limits{})}, map[inquest.Key]mark{}}
}

func (m *marks) put(service, word string, at time.Time) inquest.Key {
	m.tb.Helper()
	body := encode(m.tb, marked(word, m.n))
	r := record(m.tb, m.d, m.n, service, inquest.KindCPU, body)
	r.Meta.Start, r.Meta.End, r.Meta.Process = at, at.Add(5*time.Second), word+"/process"
	r.Meta.Labels = inquest.NewLabels(map[string]string{"service": service, "instance": word + ":80", "zone": word + "-zone"})
	m.n++
	if _, err := m.s.Append(context.Background(), r); err != nil {
		m.tb.Fatal(err)
	}
	m.have[r.Key] = mark{service, word, at, sampleSet(parse(m.tb, body))}
	return r.Key
}

// found searches the files of a directory for a word.
func found(tb testing.TB, dir, word string) (in []string) {
	tb.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if bytes.Contains(store.Unpacked(raw), []byte(word)) {
			in = append(in, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// TestDelete deletes a range of a service and a whole service, and looks for
// what is left of them in answers and in every file.
func TestDelete(t *testing.T) {
	ctx := context.Background()
	dir, c := t.TempDir(), newClock()
	with := func(o *store.Options) { o.Now, o.Epoch = c.now, 1000*time.Hour }
	s := open(t, dir, with)
	m := newMarks(t, s, c)
	var words []string
	for i := range 150 {
		words = append(words, fmt.Sprintf("word%03dx", i))
		m.put("svc", words[i], c.now())
		if i%3 == 0 {
			m.put("other", fmt.Sprintf("other%03dx", i), c.now())
		}
		if i == 70 {
			m.flush()
		}
		c.advance(10 * time.Second)
	}
	from, until := t0.Add(400*time.Second), t0.Add(1200*time.Second)
	inside := func(p mark) bool { return p.service == "svc" && !p.at.Before(from) && p.at.Before(until) }
	preview, err := s.Preview(ctx, store.Deletion{Service: "svc", Window: inquest.Window{From: from, Until: until}})
	if err != nil || preview.Profiles != 80 || preview.Bytes <= 0 {
		t.Fatalf("%+v, %v", preview, err)
	}
	d, err := s.Delete(ctx, store.Deletion{Service: "svc", Window: inquest.Window{From: from, Until: until}, By: "me", Reason: "secret"})
	if err != nil || d.Number != 1 || d.Profiles != 80 {
		t.Fatalf("%+v, %v", d, err)
	}
	late := m.put("svc", "lateword", from.Add(time.Second)) // arrives after, stays
	check := func(when string) {
		t.Helper()
		got := seen(t, m.s, store.Selection{})
		for k, p := range m.have {
			if gone := inside(p) && k != late; got[k] == gone {
				t.Fatalf("%s: %s of %s at %v: there %v", when, p.word, p.service, p.at, got[k])
			}
		}
		if len(got) != 150+50-80+1 {
			t.Fatalf("%s: %d profiles", when, len(got))
		}
	}
	check("deleted")
	settle(t, s)
	check("settled")
	// The rest is what it was.
	for id, p := range exported(t, s) {
		for _, w := range m.have {
			if w.service == "svc" && bytes.Contains([]byte(p.Mapping[0].File), []byte(w.word)) && inside(w) && w.word != "lateword" {
				t.Fatalf("%s has %s", id, w.word)
			}
		}
	}
	m.flush()
	settle(t, s)
	check("flushed")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, w := range words {
		gone := i >= 40 && i < 120
		if in := found(t, dir, w); gone != (len(in) == 0) {
			t.Fatalf("%s is in %v", w, in)
		}
	}
	s = open(t, dir, with)
	m.s = s
	check("opened")
	ds, err := s.Deletions()
	if err != nil || len(ds) != 1 || ds[0].Done.IsZero() || ds[0].By != "me" {
		t.Fatalf("%+v, %v", ds, err)
	}
	if _, err := s.Delete(ctx, store.Deletion{Service: "svc"}); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	if infos, err := s.Services(ctx, everything); err != nil || len(infos) != 1 || infos[0].Name != "other" {
		t.Fatalf("%+v, %v", infos, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range append(words, "lateword") {
		if in := found(t, dir, w); len(in) > 0 {
			t.Fatalf("%s is in %v", w, in)
		}
	}
	if in := found(t, dir, "other147x"); len(in) == 0 {
		t.Fatalf("the other service is in %v", in)
	}
}
