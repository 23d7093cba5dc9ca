package corespool_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
)

// promise is what a pool had promised, and not yet got rid of, at some moment.
type promise struct {
	told  []string // crashes that must be told
	may   []string // and those that may be
	cores []string // crashes whose cores must be there
	texts []string
}

// TestKill ends the agent after every file operation of a life, and sees
// that what was promised until then is there, and nothing else.
func TestKill(t *testing.T) {
	dir, snaps := t.TempDir(), t.TempDir()
	var now promise
	var promises []promise
	var ops []string
	p := open(t, corespool.Options{Dir: dir, QuotaBytes: 1 << 30, AfterOp: func(op string) {
		if err := os.CopyFS(filepath.Join(snaps, fmt.Sprint(len(promises))), os.DirFS(dir)); err != nil {
			t.Error(err)
		}
		c := now
		c.told, c.may, c.cores, c.texts = slices.Clone(c.told), slices.Clone(c.may), slices.Clone(c.cores), slices.Clone(c.texts)
		promises, ops = append(promises, c), append(ops, op)
	}})
	life(t, p, &now)
	for i, want := range promises {
		name := fmt.Sprintf("%d after %s", i, strings.ReplaceAll(ops[i], "/", " "))
		t.Run(name, func(t *testing.T) { checkPromise(t, filepath.Join(snaps, fmt.Sprint(i)), &want) })
	}
	t.Logf("%d operations", len(promises))
}

// life does all that a pool is for, noting in now what is promised.
func life(t *testing.T, p *corespool.Pool, now *promise) {
	id := func(n int) string { return crash(n).ID }
	now.may = append(now.may, id(1))
	if err := p.Crash(crash(1)); err != nil {
		t.Fatal(err)
	}
	now.told = append(now.told, id(1))

	now.may = append(now.may, id(2))
	if err := p.Text(crash(2), []byte("text")); err != nil {
		t.Fatal(err)
	}
	now.told, now.texts = append(now.told, id(2)), append(now.texts, id(2))

	full := newImage(t, 3, inquest.TierFull)
	now.may = append(now.may, id(3))
	w := full.begin(t, p, len(full.data))
	now.told = append(now.told, id(3))
	if err := w.Commit(full.crash, full.ledger); err != nil {
		t.Fatal(err)
	}
	now.cores = append(now.cores, id(3))

	part := newImage(t, 4, inquest.TierFull)
	now.may = append(now.may, id(4))
	w = part.begin(t, p, part.afterBlocks(4))
	now.told, now.cores = append(now.told, id(4)), append(now.cores, id(4))
	if err := w.Abort("cut"); err != nil {
		t.Fatal(err)
	}

	now.may = append(now.may, id(5))
	w = newImage(t, 5, inquest.TierFull).begin(t, p, 100)
	now.told = append(now.told, id(5))
	if err := w.Abort("cut"); err != nil {
		t.Fatal(err)
	}
	if err := p.KeepExe("ab", strings.NewReader("exe"), 3); err != nil {
		t.Fatal(err)
	}
	if err := p.SavePolicy(inquest.CapturePolicy{Default: inquest.TierMini}); err != nil {
		t.Fatal(err)
	}
	now.told = nil
	events(p)
	now.texts = nil
	p.TextDone(id(2), 4, true)
	c, _ := p.Core()
	now.cores = now.cores[1:]
	p.Done(c, true)
	c, _ = p.Core()
	now.cores = nil
	p.Refuse(c, "refused")
	p.DropExe("ab")
}

func checkPromise(t *testing.T, dir string, want *promise) {
	p := open(t, corespool.Options{Dir: dir})
	checkBytes(t, p, dir)
	if s := p.Stats(); s.Damaged != 0 || s.Writing != 0 {
		t.Errorf("stats %+v", s)
	}
	_ = p.Policy()
	told := events(p)
	for _, id := range want.told {
		if _, ok := told[id]; !ok {
			t.Errorf("crash %s is not told", id)
		}
	}
	for id := range told {
		if !slices.Contains(want.may, id) {
			t.Errorf("crash %s is told", id)
		}
	}
	for _, id := range want.texts {
		if got, data := p.NextText(); got != id || string(data) != "text" {
			t.Errorf("text %q of %q, want that of %s", data, got, id)
		}
	}
	var cores []string
	for c, _ := p.Core(); c != nil; c, _ = p.Core() {
		cores = append(cores, c.Crash.ID)
		for n := range c.Blocks {
			if _, err := c.Block(n, nil); err != nil {
				t.Error(err)
			}
		}
		if c.Blocks < c.Ledger.MiniBlocks() || c.Blocks < len(c.Ledger.Blocks()) {
			t.Errorf("core of %s with %d of %d blocks", c.Crash.ID, c.Blocks, len(c.Ledger.Blocks()))
		}
		p.Done(c, true)
	}
	for _, id := range want.cores {
		if !slices.Contains(cores, id) {
			t.Errorf("the core of %s is not there", id)
		}
	}
	checkBytes(t, p, dir)
}

// TestQuota fills a pool: what is worth least goes first.
func TestQuota(t *testing.T) {
	dir := t.TempDir()
	const quota = 20 << 20
	p := open(t, corespool.Options{Dir: dir, QuotaBytes: quota})
	a, b, c := newImage(t, 1, inquest.TierFull), newImage(t, 2, inquest.TierFull), newImage(t, 3, inquest.TierFull)
	a.put(t, p)
	b.put(t, p)
	if err := p.Text(crash(30), []byte("text")); err != nil {
		t.Fatal(err)
	}
	c.put(t, p) // the first is cut down
	checkBytes(t, p, dir)
	check(t, p, a, 2)
	if s := p.Stats(); s.Trimmed != 1 || s.Bytes > quota || s.DroppedCores != 0 {
		t.Errorf("stats %+v", s)
	}
	for n := 4; n < 12; n++ {
		newImage(t, n, inquest.TierFull).put(t, p)
	}
	checkBytes(t, p, dir)
	s := p.Stats()
	if s.Bytes > quota || s.DroppedCores == 0 || s.DroppedTexts != 0 || s.DroppedEvents != 0 {
		t.Errorf("stats %+v", s)
	}
	// The one that is being shipped stayed, and all crashes are told.
	told := events(p)
	if len(told) != 12 {
		t.Errorf("%d crashes are told", len(told))
	}
	lost := int64(0)
	for _, e := range told {
		if strings.Contains(e.Reason, "want of room") && e.Core == nil {
			lost++
		}
	}
	if lost != s.DroppedCores {
		t.Errorf("%d crashes say that their core was dropped, %d were", lost, s.DroppedCores)
	}

	// A core that does not fit at all is given up, its crash is told.
	w, err := p.Begin(crash(20))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, inquest.ErrDiskFull) {
		t.Errorf("a core without end: %v", err)
	}
	if err := w.Abort(err.Error()); err != nil {
		t.Error(err)
	}
	if e := events(p)[crash(20).ID]; !strings.Contains(e.Reason, "quota") {
		t.Errorf("crash %+v", e)
	}
	checkBytes(t, p, dir)
}

// TestQuotaOfCrashes keeps the newest crashes.
func TestQuotaOfCrashes(t *testing.T) {
	dir := t.TempDir()
	p := open(t, corespool.Options{Dir: dir, QuotaBytes: 3 << 20})
	c := crash(0)
	c.Message = strings.Repeat("x", 10<<10)
	const n = 600
	for i := range n {
		c.ID = crash(i).ID
		if err := p.Crash(c); err != nil {
			t.Fatal(err)
		}
	}
	checkBytes(t, p, dir)
	s := p.Stats()
	told := events(p)
	if _, ok := told[crash(n-1).ID]; !ok || int64(len(told))+s.DroppedEvents != n || s.DroppedEvents == 0 {
		t.Errorf("%d told, %d dropped of %d", len(told), s.DroppedEvents, n)
	}
	if r := p.Room(); r > 3<<20 {
		t.Errorf("room for %d bytes", r)
	}
}

// TestReopenedMini opens a pool whose core was cut down.
func TestReopenedMini(t *testing.T) {
	dir := t.TempDir()
	p := open(t, corespool.Options{Dir: dir, QuotaBytes: 12 << 20})
	a := newImage(t, 1, inquest.TierFull)
	a.put(t, p)
	newImage(t, 2, inquest.TierFull).put(t, p)
	p = open(t, corespool.Options{Dir: dir})
	c := check(t, p, a, 2)
	if k := c.Crash.Core; k.Tier != inquest.TierMini || k.Complete || c.Crash.Tier != inquest.TierMini || c.Crash.Reason == "" {
		t.Errorf("crash %+v with core %+v", c.Crash, k)
	}
}

// TestDamage changes a byte of every file there can be.
func TestDamage(t *testing.T) {
	made := t.TempDir()
	p := open(t, corespool.Options{Dir: made})
	im := newImage(t, 1, inquest.TierFull)
	im.put(t, p)
	for n := range 3 {
		if err := p.Crash(crash(10 + n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.SavePolicy(inquest.CapturePolicy{Default: inquest.TierMini}); err != nil {
		t.Fatal(err)
	}
	newImage(t, 2, inquest.TierFull).begin(t, p, 5<<20)
	files := map[string]string{ // and what becomes of it
		"policy":                           "policy",
		"events/0000000000000001.events":   "event",
		"cores/" + im.crash.ID + ".crash":  "core",
		"cores/" + im.crash.ID + ".ledger": "core",
		"cores/" + im.crash.ID + ".image":  "block",
		"cores/" + crash(2).ID + ".crash":  "begun",
		"cores/" + crash(2).ID + ".part":   "begun",
	}
	for name, what := range files {
		for _, where := range []string{"middle", "cut", "empty", "garbage"} {
			t.Run(name+" "+where, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
					t.Fatal(err)
				}
				damage(t, filepath.Join(dir, name), where)
				p := open(t, corespool.Options{Dir: dir})
				checkBytes(t, p, dir)
				_ = p.Policy()
				told := events(p)
				if what != "event" && len(told) < 4 {
					t.Errorf("%d crashes are told", len(told))
				}
				for c, _ := p.Core(); c != nil; c, _ = p.Core() {
					var bad error
					for n := range c.Blocks {
						if _, err := c.Block(n, nil); err != nil {
							bad = err
						}
					}
					if bad != nil {
						p.Refuse(c, bad.Error())
					} else {
						p.Done(c, true)
					}
				}
				if s := p.Stats(); what != "begun" && s.Damaged+s.DroppedCores+s.Trimmed == 0 && where != "cut" && (what != "event" || where != "empty") {
					t.Errorf("nothing was damaged: %+v", s)
				}
				checkBytes(t, p, dir)
			})
		}
	}
}

func damage(t *testing.T, name, where string) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	switch where {
	case "middle":
		data[len(data)/2] ^= 0x40
	case "cut":
		data = data[:len(data)*2/3]
	case "empty":
		data = nil
	case "garbage":
		data = []byte("what is this doing here?\n")
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestStrangers finds files that are not the pool's.
func TestStrangers(t *testing.T) {
	dir := t.TempDir()
	open(t, corespool.Options{Dir: dir})
	for _, name := range []string{"cores/x", "cores/.tmp-y", "events/z.events", "texts/..text", "exes/nothex.exe", "cores/" + crash(1).ID + ".image"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := open(t, corespool.Options{Dir: dir})
	if s := p.Stats(); s.Damaged != 5 || s.Cores+s.Texts+s.Exes+s.Events != 0 {
		t.Errorf("stats %+v", s)
	}
	checkBytes(t, p, dir)
}

// BenchmarkCrash keeps crashes one after another, as a crash loop makes them.
func BenchmarkCrash(b *testing.B) {
	p := open(b, corespool.Options{Dir: b.TempDir()})
	c := crash(1)
	c.Started = time.Now()
	for i := range 20 {
		c.Frames = append(c.Frames, inquest.Frame{Function: fmt.Sprintf("example.com/shop/pkg.function%d", i), Line: i})
	}
	for b.Loop() {
		if err := p.Crash(c); err != nil {
			b.Fatal(err)
		}
	}
}
