package query_test

import (
	"bytes"
	"context"
	"math/rand"
	"os"
	"runtime/pprof"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pprofile "github.com/google/pprof/profile"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
	"github.com/goinquest/inquest/symbolize"
)

// testSymbols knows the program of this test, once it is there.
type testSymbols struct {
	build string
	table *symbolize.Table
	came  atomic.Bool
	asked atomic.Int64
}

func (s *testSymbols) Generation() uint64 {
	if s.came.Load() {
		return 1
	}
	return 0
}

func (s *testSymbols) Frames(_ context.Context, build string, offsets []uint64) ([][]inquest.Frame, error) {
	out := make([][]inquest.Frame, len(offsets))
	s.asked.Add(1)
	if !s.came.Load() || build != s.build {
		return out, nil
	}
	for i, off := range offsets {
		if addr, ok := s.table.Address(off); ok {
			out[i] = s.table.Frames(nil, addr)
		}
	}
	return out, nil
}

// ownTable is the table of the program of this test.
func ownTable(t *testing.T) *symbolize.Table {
	t.Helper()
	name, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var blob bytes.Buffer
	if err := symbolize.WriteTable(&blob, symbolize.Input{ReaderAt: f, Size: st.Size()}, nil); err != nil {
		t.Fatal(err)
	}
	table, err := symbolize.OpenTable(bytes.NewReader(blob.Bytes()), int64(blob.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// ownProfile is a CPU profile of this process, and without what the runtime
// knew of its addresses.
func ownProfile(t *testing.T) (named, bare []byte, build string) {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		v := rand.Perm(20_000)
		slices.SortFunc(v, func(a, b int) int { return a - b })
	}
	pprof.StopCPUProfile()
	p, err := pprofile.ParseData(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sample) < 10 || p.Mapping[0].BuildID == "" {
		t.Fatalf("%d samples, build id %q", len(p.Sample), p.Mapping[0].BuildID)
	}
	for _, f := range p.Function {
		if f.Filename == "?" { // what the runtime says where it knows none
			f.Filename = ""
		}
	}
	b.Reset()
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	named, build = slices.Clone(b.Bytes()), p.Mapping[0].BuildID
	p.Function, p.Mapping[0].HasFunctions = nil, false
	for _, l := range p.Location {
		if l.Mapping != p.Mapping[0] {
			t.Logf("address %#x is not in the program", l.Address)
		}
		l.Line = nil
	}
	b.Reset()
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return named, b.Bytes(), build
}

// TestLateSymbols stores profiles with addresses alone: all answers are those
// of the same profiles with names from the moment on that the binary is known,
// of single profiles, of rollups, and of tables of the fleet.
func TestLateSymbols(t *testing.T) {
	f := newFleet(t)
	named, bare, build := ownProfile(t)
	symbols := &testSymbols{build: build, table: ownTable(t)}
	e := query.New(query.Options{Store: f.store, Now: func() time.Time { return at(3600) }, Symbols: symbols})
	for i := range 4 {
		meta := inquest.ProfileMeta{Kind: inquest.KindCPU, Start: at(float64(60 * i)), End: at(float64(60*i + 2)), Hold: time.Minute}
		f.put(named, meta, map[string]string{"service": "named", "instance": "i"})
		f.put(bare, meta, map[string]string{"service": "bare", "instance": "i"})
	}
	check := func(when string) {
		t.Helper()
		want, got := answersOf(t, e, "named"), answersOf(t, e, "bare")
		if symbols.came.Load() {
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(symbolAnswers{})); diff != "" {
				t.Errorf("%s: (-named, +symbolized)\n%s", when, diff)
			}
			return
		}
		if got.unsymbolized != got.total || want.unsymbolized == want.total || got.total != want.total {
			t.Errorf("%s: without the binary %v of %v are not symbolized, of named ones %v of %v", when, got.unsymbolized, got.total, want.unsymbolized, want.total)
		}
		for _, row := range got.top {
			name := row.Name
			if a, ok := inquest.ParseAddress(name); !ok || a.Build != build[:12] {
				t.Errorf("%s: frame %q, want an address with the begin of build id %s", when, name, build)
			}
		}
	}
	check("head")
	symbols.came.Store(true)
	check("head, later")
	if err := f.store.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("blocks")
	if err := f.store.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("rollups")
	symbols.came.Store(false)
	check("rollups, without it")
	symbols.came.Store(true)
	check("rollups, again")
	n := symbols.asked.Load()
	check("rollups, cached")
	if again := symbols.asked.Load() - n; again > 4 { // for merged pprof and lines, and the table of the fleet, which are not cached
		t.Errorf("symbols were asked %d times more for what was answered before", again)
	}
}

// symbolAnswers is what a service's CPU profiles are answered by.
type symbolAnswers struct {
	total, unsymbolized float64
	self                map[string]float64 // of the flame graph, by stack
	top, fleet          []query.TopRow
	series              float64
	lines               map[string]int64 // of merged pprof: self by function, file and line
	costs               []query.LineCost // of the function that costs most
}

// costsOf is what the function of a row costs by line, which adds up to the
// row; so does what it costs by instruction, unless some of it was inlined.
func costsOf(t *testing.T, e *query.Engine, r query.Request, row query.TopRow) []query.LineCost {
	t.Helper()
	l, err := e.Lines(context.Background(), r, row.Name, "")
	if _, address := inquest.ParseAddress(row.Name); address {
		return nil // no symbol, no lines
	}
	if err != nil {
		t.Fatal(err)
	}
	self, code := 0.0, 0.0
	for _, c := range l.Lines {
		self += c.Self
	}
	for _, c := range l.Code {
		code += c.Self
	}
	if self != row.Self || code > row.Cum || code == 0 {
		t.Errorf("%s: lines add up to %v, instructions to %v, want %v, and no more than %v", row.Name, self, code, row.Self, row.Cum)
	}
	return l.Lines
}

func answersOf(t *testing.T, e *query.Engine, service string) *symbolAnswers {
	t.Helper()
	ctx, a := context.Background(), &symbolAnswers{self: map[string]float64{}, lines: map[string]int64{}}
	r := query.Request{Query: `{service="` + service + `"}`, Type: "cpu", Window: hour}
	g, err := e.FlameGraph(ctx, r, -1)
	if err != nil {
		t.Fatal(err)
	}
	a.total, a.unsymbolized = float64(g.Tree.Cum[0])*g.Scale, g.Coverage.Unsymbolized
	for i := range g.Tree.Name {
		path := ""
		for n := i; n > 0; n = int(g.Tree.Parent[n]) {
			path = g.Tree.Names[g.Tree.Name[n]] + ";" + path
		}
		if self := g.Tree.Self[i]; self != 0 {
			a.self[path] += float64(self) * g.Scale
		}
	}
	top, err := e.Top(ctx, r, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	a.top = top.Rows
	all := r
	all.Query = ""
	if top, err = e.Top(ctx, all, "", 0); err != nil {
		t.Fatal(err)
	}
	a.fleet = top.Rows
	r.Function = "slices.*"
	if s, err := e.Series(ctx, r, time.Hour, nil); err != nil {
		t.Fatal(err)
	} else if len(s.Series) > 0 {
		a.series = s.Series[0].Points[0][1]
	}
	r.Function = ""
	a.costs = costsOf(t, e, r, a.top[0])
	var b bytes.Buffer
	if err := e.Profile(ctx, r, &b); err != nil {
		t.Fatal(err)
	}
	p, err := pprofile.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Sample {
		for i, line := range s.Location[0].Line {
			a.lines[line.Function.Name+" "+line.Function.Filename] += s.Value[1] + int64(i) + 1000*line.Line
		}
	}
	return a
}

var _ store.Symbols = (*testSymbols)(nil)
