package corespool_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

const (
	miniBytes = 3 << 19 // two blocks
	fullBytes = 5 << 20 // five more
)

// crash makes a crash of its own.
func crash(n int) inquest.Crash {
	return inquest.Crash{
		ID: inquest.CrashID(fmt.Sprint(n)), Kind: inquest.CrashDeath, At: time.Unix(int64(n), 0).UTC(),
		Service: "shop", Wanted: inquest.TierFull, Tier: inquest.TierNone,
	}
}

// image is the image of the core of a crash.
type image struct {
	crash  inquest.Crash
	data   []byte
	ledger *coredump.Ledger
}

// newImage makes one of memory that cannot be packed; mini says whether it is
// more than a minicore.
func newImage(t testing.TB, n int, tier inquest.Tier) *image {
	t.Helper()
	c := crash(n)
	h := &coredump.Header{
		Core: inquest.Core{Crash: c.ID, Tier: tier, Arch: "amd64"}, Machine: 62,
		Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: 1 << 20, Size: 64 << 20}, Fill: coredump.FillMissing}},
		Extents:  []coredump.Extent{{Addr: 8 << 20, Size: miniBytes}}, Mini: 1,
	}
	size := miniBytes
	if tier == inquest.TierFull {
		h.Extents = append(h.Extents, coredump.Extent{Addr: 1 << 20, Size: fullBytes})
		size += fullBytes
	}
	var out bytes.Buffer
	w, err := coredump.NewWriter(&out, h)
	if err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(memory) // never fails
	if _, err := w.Write(memory); err != nil {
		t.Fatal(err)
	}
	l, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	k := l.Header().Core
	c.Core, c.Tier = &k, tier
	return &image{c, out.Bytes(), l}
}

func open(t testing.TB, o corespool.Options) *corespool.Pool {
	t.Helper()
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = -1
	}
	p, err := corespool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// put writes an image as the capture does.
func (im *image) put(t testing.TB, p *corespool.Pool) {
	t.Helper()
	w := im.begin(t, p, len(im.data))
	if err := w.Commit(im.crash, im.ledger); err != nil {
		t.Fatal(err)
	}
}

// begin writes the first n bytes of an image.
func (im *image) begin(t testing.TB, p *corespool.Pool, n int) *corespool.Writer {
	t.Helper()
	c := im.crash
	c.Core = &inquest.Core{Crash: c.ID, Tier: c.Core.Tier, Arch: "amd64"}
	w, err := p.Begin(c)
	if err != nil {
		t.Fatal(err)
	}
	for data := im.data[:n]; len(data) > 0; data = data[min(len(data), 700<<10):] {
		if _, err := w.Write(data[:min(len(data), 700<<10)]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// afterBlocks is where the file of an image has its first n blocks.
func (im *image) afterBlocks(n int) int {
	b := im.ledger.Blocks()[n-1]
	return int(b.Offset) + int(b.Stored)
}

// events are the crashes that wait, by id; the newest record of each counts.
func events(p *corespool.Pool) map[string]inquest.Crash {
	out := map[string]inquest.Crash{}
	for b := p.Events(); b != nil; b = p.Events() {
		for _, c := range b.Crashes {
			out[c.ID] = c
		}
		p.Told(b)
	}
	return out
}

// check claims the next core and sees that its blocks are what they should be.
func check(t testing.TB, p *corespool.Pool, want *image, blocks int) *corespool.Core {
	t.Helper()
	c, _ := p.Core()
	if c == nil {
		t.Fatal("no core")
	}
	if c.Crash.ID != want.crash.ID || c.Blocks != blocks {
		t.Fatalf("core of crash %s with %d blocks, want %s with %d", c.Crash.ID, c.Blocks, want.crash.ID, blocks)
	}
	for n := range blocks {
		got, err := c.Block(n, nil)
		if err != nil {
			t.Fatal(err)
		}
		b := want.ledger.Blocks()[n]
		if !bytes.Equal(got, want.data[b.Offset:b.Offset+int64(b.Stored)]) {
			t.Errorf("block %d is another", n)
		}
	}
	if _, err := c.Block(blocks, nil); blocks < len(c.Ledger.Blocks()) && !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("block %d: %v", blocks, err)
	}
	return c
}

// sizeOf adds up the files of a pool, but for the policy.
func sizeOf(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "policy" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

func checkBytes(t testing.TB, p *corespool.Pool, dir string) {
	t.Helper()
	if got, want := p.Stats().Bytes, sizeOf(t, dir); got != want {
		t.Errorf("the pool says it takes %d bytes, its files have %d", got, want)
	}
}

func TestShipped(t *testing.T) {
	dir := t.TempDir()
	p := open(t, corespool.Options{Dir: dir})
	full, mini := newImage(t, 1, inquest.TierFull), newImage(t, 2, inquest.TierMini)
	if err := p.Crash(crash(3)); err != nil {
		t.Fatal(err)
	}
	full.put(t, p)
	mini.put(t, p)
	told := crash(4)
	told.Text = &inquest.CrashText{Bytes: 5, Kept: 5}
	if err := p.Text(told, []byte("panic")); err != nil {
		t.Fatal(err)
	}
	exe := []byte("executable")
	if err := p.KeepExe("ab12", bytes.NewReader(exe), int64(len(exe))); err != nil {
		t.Fatal(err)
	}
	checkBytes(t, p, dir)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	p = open(t, corespool.Options{Dir: dir})
	checkBytes(t, p, dir)
	got := events(p)
	want := map[string]inquest.Crash{}
	for _, c := range []inquest.Crash{full.crash, mini.crash, crash(3), told} {
		want[c.ID] = c
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("crashes (-want +got):\n%s", d)
	}
	if id, text := p.NextText(); id != told.ID || string(text) != "panic" {
		t.Errorf("text %q of %s", text, id)
	}
	p.TextDone(told.ID, 5, true)
	if f, err := p.OpenExe("ab12"); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
	p.DropExe("ab12")
	c := check(t, p, full, 7)
	p.Return(c, time.Now().Add(time.Hour), "later")
	p.Done(check(t, p, mini, 2), true)
	if c, wait := p.Core(); c != nil || wait < 50*time.Minute {
		t.Errorf("core %v, or in %v", c, wait)
	}
	checkBytes(t, p, dir)
	if s := p.Stats(); s.Cores != 1 || s.Shipped != 1 || s.Events+s.Texts+s.Exes+int(s.Damaged) != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestPolicy(t *testing.T) {
	dir := t.TempDir()
	want := inquest.CapturePolicy{Default: inquest.TierMini, Rules: []inquest.CaptureRule{{Service: "a*", Tier: inquest.TierNone}}, Builds: []string{"ab"}}
	if err := open(t, corespool.Options{Dir: dir}).SavePolicy(want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, open(t, corespool.Options{Dir: dir}).Policy()); d != "" {
		t.Error(d)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy"), []byte("00000000 {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, corespool.Options{Dir: dir})
	if d := cmp.Diff(inquest.CapturePolicy{}, p.Policy()); d != "" || p.Stats().Damaged != 1 {
		t.Errorf("damaged: %s, stats %+v", d, p.Stats())
	}
}

// TestAbort gives cores up at several places.
func TestAbort(t *testing.T) {
	im := newImage(t, 1, inquest.TierFull)
	for _, tt := range []struct {
		name   string
		bytes  int
		blocks int // that are kept
	}{
		{"nothing", 0, 0},
		{"a part of the head", 20, 0},
		{"one block", im.afterBlocks(1), 0},
		{"nearly the minicore", im.afterBlocks(2) - 1, 0},
		{"the minicore", im.afterBlocks(2), 2},
		{"a part of the next block", im.afterBlocks(3) - 1, 2},
		{"six blocks", im.afterBlocks(6), 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p := open(t, corespool.Options{Dir: dir})
			if err := im.begin(t, p, tt.bytes).Abort("it went away"); err != nil {
				t.Fatal(err)
			}
			checkBytes(t, p, dir)
			checkSalvaged(t, p, im, tt.blocks, "it went away")

			// The same when the agent was killed there.
			dir = t.TempDir()
			p = open(t, corespool.Options{Dir: dir})
			im.begin(t, p, tt.bytes)
			_ = p.Close()
			p = open(t, corespool.Options{Dir: dir})
			checkBytes(t, p, dir)
			checkSalvaged(t, p, im, tt.blocks, "the agent was ended while it copied the process")
		})
	}
}

func checkSalvaged(t *testing.T, p *corespool.Pool, im *image, blocks int, reason string) {
	t.Helper()
	got := events(p)[im.crash.ID]
	tier := inquest.TierNone
	if blocks > 0 {
		tier = inquest.TierMini
	}
	if got.Tier != tier || got.Reason != reason || (got.Core != nil) != (blocks > 0) {
		t.Errorf("crash %+v, want tier %s", got, tier)
	}
	c, _ := p.Core()
	if blocks == 0 {
		if c != nil {
			t.Errorf("core with %d blocks", c.Blocks)
		}
		return
	}
	if c == nil || c.Blocks != blocks || len(c.Ledger.Blocks()) != blocks || c.Crash.Core.Complete || c.Crash.Core.ID != c.Ledger.ID() {
		t.Fatalf("core %+v", c)
	}
	for n := range blocks {
		if _, err := c.Block(n, nil); err != nil {
			t.Error(err)
		}
	}
	p.Done(c, true)
}

func TestInput(t *testing.T) {
	p := open(t, corespool.Options{Dir: t.TempDir()})
	bad := crash(1)
	bad.ID = "../../etc/passwd"
	if _, err := p.Begin(bad); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("begin: %v", err)
	}
	if err := p.Text(bad, nil); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("text: %v", err)
	}
	if err := p.KeepExe("../x", nil, 0); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("exe: %v", err)
	}
	if err := p.KeepExe("ab", strings.NewReader("short"), 10); err == nil {
		t.Error("a short executable was kept")
	}
	large := crash(2)
	large.Message = strings.Repeat("x", 2<<20)
	if err := p.Crash(large); !errors.Is(err, inquest.ErrTooLarge) {
		t.Errorf("large: %v", err)
	}
	if _, err := p.Begin(crash(3)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(crash(3)); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("twice: %v", err)
	}
	sum := sha256.Sum256(nil)
	if err := p.KeepExe("go-"+hex.EncodeToString(sum[:]), strings.NewReader(""), 0); err != nil {
		t.Errorf("old build id: %v", err)
	}
}
