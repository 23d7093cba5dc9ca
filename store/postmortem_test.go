package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/store"
)

// crashOf makes death n of a service, at t0 and n minutes.
func crashOf(n int, service, key string) inquest.Crash {
	process := fmt.Sprintf("boot/%s/%d", service, n)
	return inquest.Crash{
		ID: inquest.CrashID(process), Kind: inquest.CrashDeath, At: t0.Add(time.Duration(n) * time.Minute), Service: service, Instance: "host:80",
		Process: process, Build: "b1", Class: "panic:string", Message: "panic: no", Key: key, Tier: inquest.TierText, Source: []string{"socket"},
		Frames: []inquest.Frame{{Function: "main.fall", File: "main.go", Line: 7}},
	}
}

// coreOf makes a core of a crash: a file as agents ship it, of so many blocks
// of which the first few are the minicore, and its memory.
func coreOf(tb testing.TB, c *inquest.Crash, blocks, mini int) (*coredump.Ledger, *coredump.Image, []byte) {
	tb.Helper()
	rnd := rand.New(rand.NewPCG(uint64(blocks), uint64(len(c.ID)+int(c.At.Unix()))))
	mem := make([]byte, blocks*coredump.BlockBytes)
	for i := 0; i < len(mem); i += 64 {
		mem[i] = byte(rnd.Uint32())
	}
	const base = 0x400000
	h := &coredump.Header{
		Core:     inquest.Core{Crash: c.ID, Tier: inquest.TierFull, Arch: "amd64", Build: c.Build},
		Machine:  62,
		Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: base, Size: uint64(len(mem))}, Flags: 6}},
	}
	if mini > 0 {
		h.Extents = append(h.Extents, coredump.Extent{Addr: base, Size: uint64(mini * coredump.BlockBytes)})
		h.Mini = 1
	}
	if mini < blocks {
		h.Extents = append(h.Extents, coredump.Extent{Addr: base + uint64(mini*coredump.BlockBytes), Size: uint64((blocks - mini) * coredump.BlockBytes)})
	}
	var file bytes.Buffer
	w, err := coredump.NewWriter(&file, h)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(mem); err != nil {
		tb.Fatal(err)
	}
	l, err := w.Close()
	if err != nil {
		tb.Fatal(err)
	}
	im, err := coredump.OpenImage(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		tb.Fatal(err)
	}
	core := l.Header().Core
	c.Core = &core
	return l, im, file.Bytes()
}

// sendCore offers a core and sends what is missing of it.
func sendCore(s *store.Store, c *inquest.Crash, l *coredump.Ledger, im *coredump.Image, want inquest.Tier) (*store.StoredCore, error) {
	ctx := context.Background()
	if _, err := s.PutCrashes(ctx, []inquest.Crash{*c}); err != nil {
		return nil, err
	}
	for range 3 {
		st, err := s.BeginCore(c, l, want, "agent")
		if err != nil {
			return nil, err
		}
		if st.Stored != nil {
			return st.Stored, nil
		}
		for _, r := range st.Missing {
			for n := r[0]; n < r[1]; n++ {
				b, err := im.Stored(n)
				if err != nil {
					return nil, err
				}
				if err := s.PutCoreBlock(ctx, l.ID(), n, b); err != nil {
					return nil, err
				}
			}
		}
		st, err = s.CommitCore(ctx, l.ID())
		if err == nil {
			return st.Stored, nil
		}
		if !errors.Is(err, inquest.ErrConflict) {
			return nil, err
		}
	}
	return nil, errors.New("blocks are missing again and again")
}

func readCore(tb testing.TB, s *store.Store, id string) []byte {
	tb.Helper()
	r, err := s.OpenCore(id)
	if err != nil {
		tb.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	if _, err := r.Image().WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func mustTell(tb testing.TB, s *store.Store, cs ...inquest.Crash) []store.StoredCrash {
	tb.Helper()
	out, err := s.PutCrashes(context.Background(), cs)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func groupsOf(tb testing.TB, s *store.Store, q store.CrashQuery) []store.CrashGroup {
	tb.Helper()
	out, err := s.CrashGroups(q)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func TestCrashesMerge(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	c := crashOf(1, "shop", "")
	c.Class, c.Message, c.Frames = inquest.ClassUnknown, "", nil
	c.Source = []string{"client"}
	first := mustTell(t, s, c)[0]
	if again := mustTell(t, s, c)[0]; !cmp.Equal(first, again) {
		t.Errorf("told again it is another: %s", cmp.Diff(first, again))
	}
	if g := groupsOf(t, s, store.CrashQuery{}); len(g) != 1 || g[0].Count != 1 {
		t.Errorf("groups after one death told twice: %+v", g)
	}
	full := crashOf(1, "shop", "k1")
	full.Facts, full.Tier, full.Count = &inquest.Facts{Pod: "shop-1"}, inquest.TierNone, 5
	got := mustTell(t, s, full)[0]
	if got.Class != "panic:string" || len(got.Frames) != 1 || got.Facts.Pod != "shop-1" || got.Tier != inquest.TierText || strings.Join(got.Source, ",") != "client,socket" || got.Deaths() != 5 {
		t.Errorf("joined: %+v", got)
	}
	if late := mustTell(t, s, c)[0]; late.Class != "panic:string" || late.Deaths() != 5 {
		t.Errorf("the unknown class came back: %+v", late)
	}
	if err := s.PutCrashText(context.Background(), c.ID, []byte("panic: no\n\ngoroutine 1 [running]:\n")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutCrashText(context.Background(), c.ID, []byte("short")); err != nil {
		t.Fatal(err)
	}
	check := func(s *store.Store) {
		t.Helper()
		g := groupsOf(t, s, store.CrashQuery{})
		if len(g) != 1 || g[0].Count != 5 || g[0].Key != "k1" || len(g[0].Hours) != 1 || g[0].Hours[0].Count != 5 {
			t.Errorf("groups: %+v", g)
		}
		text, err := s.CrashText(c.ID)
		if err != nil || !strings.HasPrefix(string(text), "panic: no") {
			t.Errorf("text: %q, %v", text, err)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, dir))
	if _, err := s.Crash("0123"); err == nil {
		t.Error("a crash that is none is found")
	}
}

func TestCrashPages(t *testing.T) {
	s := open(t, t.TempDir(), store.CrashBounds(50, 20, 3))
	for n := range 30 {
		mustTell(t, s, crashOf(n, "a", "k1"), crashOf(n, "b", "k2"))
	}
	var ids []string
	q := store.CrashQuery{Service: "a", Limit: 7}
	for {
		page, next, err := s.Crashes(q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			ids = append(ids, c.ID)
		}
		if q.After = next; next == "" {
			break
		}
	}
	if len(ids) != 20 || ids[0] != inquest.CrashID("boot/a/29") || ids[19] != inquest.CrashID("boot/a/10") {
		t.Errorf("%d ids: %v", len(ids), ids)
	}
	for _, g := range groupsOf(t, s, store.CrashQuery{}) {
		if g.Count != 30 || g.Records != 20 {
			t.Errorf("group %s counts %d, has %d records", g.Service, g.Count, g.Records)
		}
	}
	mustTell(t, s, crashOf(100, "c", "k3"), crashOf(101, "d", "k4"))
	if g := groupsOf(t, s, store.CrashQuery{}); len(g) != 3 || g[0].Service != "d" {
		t.Errorf("groups beyond the bound: %+v", g)
	}
	if _, _, err := s.Crashes(store.CrashQuery{After: "x"}); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

func TestCoreRoundTrip(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	c := crashOf(1, "shop", "k1")
	l, im, file := coreOf(t, &c, 5, 2)
	ctx := context.Background()
	mustTell(t, s, c)
	st, err := s.BeginCore(&c, l, inquest.TierFull, "agent")
	if err != nil || !cmp.Equal(st.Missing, [][2]int{{0, 5}}) {
		t.Fatalf("offer: %+v, %v", st, err)
	}
	b, err := im.Stored(1)
	if err != nil {
		t.Fatal(err)
	}
	wrong := bytes.Clone(b)
	wrong[3] ^= 1
	for name, try := range map[string]error{
		"damaged": s.PutCoreBlock(ctx, l.ID(), 1, wrong), "short": s.PutCoreBlock(ctx, l.ID(), 1, b[:5]), "another": s.PutCoreBlock(ctx, l.ID(), 2, b),
	} {
		if !errors.Is(try, inquest.ErrInvalid) {
			t.Errorf("a %s block: %v", name, try)
		}
	}
	if err := s.PutCoreBlock(ctx, l.ID(), 1, b); err != nil {
		t.Fatal(err)
	}
	if st, err := s.CommitCore(ctx, l.ID()); !errors.Is(err, inquest.ErrConflict) || !cmp.Equal(st.Missing, [][2]int{{0, 1}, {2, 5}}) {
		t.Errorf("commit of a part: %+v, %v", st, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if st, err = s.BeginCore(&c, l, inquest.TierFull, "agent"); err != nil || !cmp.Equal(st.Missing, [][2]int{{0, 1}, {2, 5}}) {
		t.Fatalf("offered again: %+v, %v", st, err)
	}
	part, err := coredump.OpenImage(bytes.NewReader(readCore(t, s, l.ID())), int64(len(readCore(t, s, l.ID()))))
	if err != nil || part.Has(0) || !part.Has(1) {
		t.Errorf("a part is read as another: %v", err)
	}
	// What the disk lost of a block is found out before the core counts.
	name := filepath.Join(dir, "cores", l.ID()+".part")
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{1, 2, 3}, l.Blocks()[1].Offset+9); err != nil {
		t.Fatal(err)
	}
	f.Close()
	stored, err := sendCore(s, &c, l, im, inquest.TierFull)
	if err != nil || !stored.Complete || stored.Tier != inquest.TierFull {
		t.Fatalf("stored: %+v, %v", stored, err)
	}
	for range 2 {
		if got := readCore(t, s, l.ID()); !bytes.Equal(got, file) {
			t.Errorf("read %d bytes of %d, which differ", len(got), len(file))
		}
		if c, err := s.Crash(c.ID); err != nil || c.Tier != inquest.TierFull || c.Core == nil || !c.Core.Complete {
			t.Errorf("crash: %+v, %v", c, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
	}
	if err := s.DeleteCore(l.ID()); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Crash(c.ID); err != nil || c.Core != nil || c.CoreGone == "" {
		t.Errorf("crash without its core: %+v, %v", c, err)
	}
	noCoreFiles(t, dir)
}

func noCoreFiles(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "cores"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left of cores: %v, %v", entries, err)
	}
}

// TestMinicore takes the minicore of a full one, by offer and by neglect.
func TestMinicore(t *testing.T) {
	clock := newClock()
	clock.advance(time.Hour)
	dir := t.TempDir()
	s := open(t, dir, func(o *store.Options) { o.Now = clock.now })
	c := crashOf(1, "shop", "k1")
	l, im, _ := coreOf(t, &c, 5, 2)
	stored, err := sendCore(s, &c, l, im, inquest.TierMini)
	if err != nil || stored.Tier != inquest.TierMini || stored.Blocks != 2 {
		t.Fatalf("stored: %+v, %v", stored, err)
	}
	left, none := crashOf(2, "shop", "k1"), crashOf(3, "shop", "k1")
	l2, im2, _ := coreOf(t, &left, 4, 1)
	l3, _, _ := coreOf(t, &none, 3, 1)
	mustTell(t, s, left, none)
	for c, l := range map[*inquest.Crash]*coredump.Ledger{&left: l2, &none: l3} {
		if _, err := s.BeginCore(c, l, inquest.TierFull, "agent"); err != nil {
			t.Fatal(err)
		}
	}
	b, err := im2.Stored(0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.PutCoreBlock(context.Background(), l2.ID(), 0, b); err != nil {
		t.Fatal(err)
	}
	clock.advance(25 * time.Hour)
	if err := s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Core(l2.ID()); err != nil || c.Tier != inquest.TierMini || !c.Complete {
		t.Errorf("what was left of an upload: %+v, %v", c, err)
	}
	if _, err := s.Core(l3.ID()); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("an upload nobody went on with: %v", err)
	}
}

func TestCoresKept(t *testing.T) {
	clock := newClock()
	clock.advance(time.Hour)
	dir := t.TempDir()
	s := open(t, dir, func(o *store.Options) {
		o.Now = clock.now
		o.Retention.CoresMore = 1
	})
	var ids []string
	for n := range 8 {
		c := crashOf(n, "shop", "k1")
		l, im, _ := coreOf(t, &c, 1, 1)
		if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, l.ID())
	}
	if _, err := s.PinCore(ids[3], true, "me"); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	if got := s.CoreStats().Cores; got < 4 || got > 5 {
		t.Errorf("%d cores stay", got)
	}
	clock.advance(40 * 24 * time.Hour)
	settle(t, s)
	if cores := s.Cores("", ""); len(cores) != 1 || cores[0].ID != ids[3] {
		t.Errorf("a month later: %+v", cores)
	}
	if _, err := s.PinCore(ids[3], false, ""); err != nil {
		t.Fatal(err)
	}
	clock.advance(400 * 24 * time.Hour)
	settle(t, s)
	if st := s.CrashStats(); st.Records != 0 || st.Groups != 0 {
		t.Errorf("a year later: %+v", st)
	}
	noCoreFiles(t, dir)
}

// TestDeleteCrashes deletes a service, and a stretch of time.
func TestDeleteCrashes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	waitReady(t, s)
	ctx := context.Background()
	for _, service := range []string{"a", "b"} {
		for n := range 3 {
			c := crashOf(n*60, service, "k1")
			l, im, _ := coreOf(t, &c, 1, 1)
			if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
				t.Fatal(err)
			}
			if err := s.PutCrashText(ctx, c.ID, []byte("panic: secret of "+service)); err != nil {
				t.Fatal(err)
			}
		}
	}
	open := crashOf(9, "a", "k1")
	l, _, _ := coreOf(t, &open, 2, 1)
	mustTell(t, s, open)
	if _, err := s.BeginCore(&open, l, inquest.TierFull, "agent"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, store.Deletion{Service: "a", By: "me"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Delete(ctx, store.Deletion{Service: "b", Window: inquest.Window{From: t0.Add(30 * time.Minute), Until: t0.Add(90 * time.Minute)}, By: "me"}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		groups := groupsOf(t, s, store.CrashQuery{})
		if len(groups) != 1 || groups[0].Service != "b" || groups[0].Count != 2 || groups[0].Records != 2 || groups[0].Cores != 2 {
			t.Errorf("groups: %+v", groups)
		}
		texts, _ := os.ReadDir(filepath.Join(dir, "texts"))
		cores, _ := os.ReadDir(filepath.Join(dir, "cores"))
		if len(texts) != 2 || len(cores) != 4 {
			t.Errorf("%d texts, %d files of cores: %v", len(texts), len(cores), cores)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openAgain(t, dir)
	check()
}

func openAgain(t *testing.T, dir string) *store.Store { return open(t, dir) }

// TestPostmortemFaults has every call to the disk fail in turn while crashes
// and cores come: whatever fails can be done again, and what was acknowledged is
// there after the next start.
func TestPostmortemFaults(t *testing.T) {
	c := crashOf(1, "shop", "k1")
	l, im, file := coreOf(t, &c, 3, 1)
	text := []byte("panic: no")
	for mode := range store.NumFaultModes {
		for n := 0; ; n++ {
			files := &store.Faults{}
			files.Arm(mode, -1)
			dir := fastDir(t)
			s := open(t, dir, store.WithFaults(files), func(o *store.Options) { o.Idle = true })
			waitReady(t, s)
			files.Arm(mode, n)
			failed := ""
			try := func(what string, do func() error) {
				err := do()
				if err != nil {
					if failed, _ = files.Failed(); failed == "" {
						t.Fatalf("%v %d: %s: %v though nothing failed", mode, n, what, err)
					}
					files.Repair()
					err = do()
				}
				if err != nil {
					t.Fatalf("%v %d (%s): %s does not recover: %v", mode, n, failed, what, err)
				}
			}
			try("send", func() error { _, err := sendCore(s, &c, l, im, inquest.TierFull); return err })
			try("text", func() error { return s.PutCrashText(context.Background(), c.ID, text) })
			met, _ := files.Failed()
			files.Repair()
			for range 2 {
				if got := readCore(t, s, l.ID()); !bytes.Equal(got, file) {
					t.Fatalf("%v %d (%s): the core is read with other bytes", mode, n, met)
				}
				if got, err := s.CrashText(c.ID); err != nil || !bytes.Equal(got, text) {
					t.Fatalf("%v %d (%s): text %q, %v", mode, n, met, got, err)
				}
				if g := groupsOf(t, s, store.CrashQuery{}); len(g) != 1 || g[0].Count != 1 {
					t.Fatalf("%v %d (%s): groups %+v", mode, n, met, g)
				}
				if err := s.Close(); err != nil {
					t.Fatalf("%v %d (%s): close: %v", mode, n, met, err)
				}
				s = open(t, dir)
			}
			_ = s.Close()
			entries, _ := os.ReadDir(filepath.Join(dir, "cores"))
			if len(entries) != 2 {
				t.Fatalf("%v %d (%s): left of cores: %v", mode, n, met, entries)
			}
			os.RemoveAll(dir)
			if met == "" {
				break
			}
		}
	}
}

// TestPostmortemCare checks, backs up and restores crashes and cores.
func TestPostmortemCare(t *testing.T) {
	dir, to := t.TempDir(), t.TempDir()
	s := open(t, dir)
	waitReady(t, s)
	ctx := context.Background()
	var files [][]byte
	var ids []string
	for n := range 2 {
		c := crashOf(n, "shop", "k1")
		l, im, file := coreOf(t, &c, 2, 1)
		if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
			t.Fatal(err)
		}
		if err := s.PutCrashText(ctx, c.ID, fmt.Appendf(nil, "panic: %d", n)); err != nil {
			t.Fatal(err)
		}
		files, ids = append(files, file), append(ids, l.ID())
	}
	m, err := s.BackupDir(ctx, filepath.Join(to, "backup"), nil)
	if err != nil || m.Cores != 2 || m.Texts != 2 {
		t.Fatalf("backup: %+v, %v", m, err)
	}
	if r, err := s.Check(ctx, true, nil); err != nil || !r.Whole() || r.Cores != 2 || r.Texts != 2 || r.Crashes != 2 {
		t.Fatalf("online: %+v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.RestoreDir(ctx, filepath.Join(to, "backup"), store.RestoreOptions{Dir: filepath.Join(to, "data")}); err != nil {
		t.Fatal(err)
	}
	s = open(t, filepath.Join(to, "data"))
	for i, id := range ids {
		if !bytes.Equal(readCore(t, s, id), files[i]) {
			t.Error("a restored core has other bytes")
		}
	}
	// Flips are found, and repaired by setting aside.
	core := filepath.Join(dir, "cores", ids[0]+".core")
	raw, err := os.ReadFile(core)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(core, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "texts", "*.txt"))
	if err != nil || len(names) != 2 {
		t.Fatal(names, err)
	}
	if err := os.Truncate(names[0], 3); err != nil {
		t.Fatal(err)
	}
	r, err := store.Check(ctx, store.CheckOptions{Dir: dir, Repair: true})
	if err != nil || len(r.Problems) != 2 || !r.Problems[0].Repaired || !r.Problems[1].Repaired {
		t.Fatalf("repair: %+v, %v", r, err)
	}
	if r, err = store.Check(ctx, store.CheckOptions{Dir: dir}); err != nil || !r.Whole() || r.Cores != 1 || r.Texts != 1 {
		t.Fatalf("after repair: %+v, %v", r, err)
	}
	s = open(t, dir)
	if cores := s.Cores("shop", ""); len(cores) != 1 || cores[0].ID != ids[1] {
		t.Errorf("cores: %+v", cores)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Of a catalog that is lost cores bring their crashes back.
	if err := os.Truncate(filepath.Join(dir, "catalog.db"), 0); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if cores := s.Cores("", ""); len(cores) != 1 {
		t.Errorf("without a catalog: %+v", cores)
	}
	if c, err := s.Crash(inquest.CrashID("boot/shop/1")); err != nil || c.Core == nil {
		t.Errorf("crash without a catalog: %+v, %v", c, err)
	}
}
