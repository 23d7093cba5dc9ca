package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// faultRun is the workload of TestFaults: everything a store does with files.
type faultRun struct {
	*survivor
	files *store.Faults
	mode  store.FaultMode
	label string
	hurt  bool // something has failed
	keys  []inquest.Key
	gone  []inquest.Key // of a service that is deleted
	old   int           // profiles that are too old

	binaries [][]byte // that were acknowledged
}

// upload uploads a binary, and goes on with an upload that failed.
func (f *faultRun) upload() {
	f.t.Helper()
	raw := fakeBinary(fmt.Sprint("binary", len(f.binaries)), "code", true, 3000)
	f.try("upload", func() error {
		_, err := upload(f.s, raw, store.Provenance{Source: store.SourceCI})
		return err
	})
	f.binaries = append(f.binaries, raw)
	sha := shaOf(raw)
	f.try("table", func() error {
		return f.s.PutTable(sha, 1, func(w io.Writer) error { _, err := w.Write(raw); return err })
	})
}

// readBinaries reads all that were acknowledged.
func (f *faultRun) readBinaries(s *store.Store) {
	f.t.Helper()
	for _, raw := range f.binaries {
		if !bytes.Equal(readBinary(f.t, s, shaOf(raw)), raw) {
			f.t.Fatalf("%s: a binary is read with other bytes", f.label)
		}
	}
}

func newFaultRun(t *testing.T, mode store.FaultMode) *faultRun {
	files := &store.Faults{}
	files.Arm(mode, -1)
	return &faultRun{files: files, mode: mode, survivor: newSurvivor(t, store.WithFaults(files), func(o *store.Options) {
		o.Retention.Services = []store.ServiceRetention{{Match: "old", Raw: time.Hour, FiveMinutes: time.Hour, Hour: time.Hour, Day: time.Hour}}
	})}
}

// try does something. It may fail only while the disk does; then the disk is
// repaired, in time, and it is done again.
func (f *faultRun) try(what string, do func() error) {
	f.t.Helper()
	err := do()
	failed, _ := f.files.Failed()
	if failed == "" {
		if err != nil {
			f.t.Fatalf("%s: %v", what, err)
		}
		return
	}
	if !f.hurt {
		f.hurt = true
		f.label += fmt.Sprintf(" (%s: %s: %v)", what, failed, err)
		f.suffer()
	}
	for end := time.Now().Add(20 * time.Second); err != nil; time.Sleep(time.Millisecond) {
		if err = do(); err != nil && time.Now().After(end) {
			f.t.Fatalf("%s: does not recover, %s: %v", f.label, what, err)
		}
	}
}

// suffer looks at the store while the disk fails, and repairs it.
func (f *faultRun) suffer() {
	f.t.Helper()
	if f.s != nil && f.mode == store.FullFrom {
		// Reads are served, writes are refused in words that say why.
		if got := f.lenient(); got < len(f.ids) {
			f.t.Fatalf("%s: on a full disk %d profiles are served, want %d", f.label, got, len(f.ids))
		}
		k := f.make(900, "a", t0)
		if err := f.send(k); !errors.Is(err, inquest.ErrDiskFull) {
			f.t.Fatalf("%s: appended to a full disk: %v", f.label, err)
		}
		delete(f.records, k)
	}
	f.powerCut()
	f.files.Repair()
}

// powerCut looks at what a power cut would leave now.
func (f *faultRun) powerCut() {
	f.t.Helper()
	if _, err := os.Stat(f.dir + "/catalog.db"); err != nil {
		return
	}
	cut := &survivor{t: f.t, d: f.d, dir: copyFast(f.t, f.dir), clock: f.clock, options: append(f.options[:1:1], f.options[2:]...),
		model: maps.Clone(f.model), ids: maps.Clone(f.ids), records: maps.Clone(f.records), maybe: f.maybe}
	cut.open()
	cut.check(f.label + ", power cut")
	f.readBinaries(cut.s)
	_ = cut.s.Close()
	os.RemoveAll(cut.dir)
}

// lenient counts the profiles that are served, without those of parts that
// could not be read.
func (f *faultRun) lenient() int {
	f.t.Helper()
	view, err := f.s.View(context.Background(), store.Selection{})
	if err != nil {
		f.t.Fatal(err)
	}
	defer view.Close()
	out := map[string]int64{}
	if err := addTotals(context.Background(), view, out); err != nil && !errors.Is(err, store.ErrDamaged) {
		f.t.Fatal(err)
	}
	n := 0
	for k, v := range out {
		if len(k) > 9 && k[len(k)-9:] == " profiles" {
			n += int(v)
		}
	}
	return n
}

// look compares the store with the model. What the disk did not give is left
// out until the next start, and said so.
func (f *faultRun) look(when string) {
	f.t.Helper()
	if !f.hurt {
		if failed, _ := f.files.Failed(); failed == "" {
			f.query(when)
			return
		}
	}
	f.try(when, func() error { return nil }) // takes note of what failed behind
	f.files.Repair()
	if _, reads := f.files.Failed(); reads {
		f.lenient()
		_ = f.s.Close()
		f.open()
	}
	f.check(f.label + ", " + when)
}

// query reads everything while the disk may fail.
func (f *faultRun) query(when string) {
	f.t.Helper()
	f.lenient()
	for _, sel := range []store.Selection{{Rollups: true}, {Rollups: true, Fleet: true}, {Digests: true}} {
		view, err := f.s.View(context.Background(), sel)
		if err != nil {
			f.t.Fatal(err)
		}
		if err := addTotals(context.Background(), view, map[string]int64{}); err != nil && !errors.Is(err, store.ErrDamaged) {
			f.t.Fatal(err)
		}
		view.Close()
	}
	if _, err := f.s.Services(context.Background(), everything); err != nil {
		f.t.Fatal(err)
	}
	for _, k := range f.keys[:min(2, len(f.keys))] {
		f.try(when, func() error {
			if _, reads := f.files.Failed(); reads {
				return nil // it may be in a part that is left out
			}
			view, _, _, err := f.s.Find(context.Background(), f.ids[k])
			if err == nil {
				view.Close()
			}
			return err
		})
	}
}

// append sends a few profiles and one that is there already.
func (f *faultRun) append(n int) {
	f.t.Helper()
	for range n {
		i := len(f.keys)
		k := f.make(i, []string{"a", "b", "c"}[i%3], t0.Add(time.Duration(i)*40*time.Second))
		f.try("append", func() error { return f.send(k) })
		f.keys = append(f.keys, k)
		if i%4 == 1 {
			f.old++
			k := f.make(500+f.old, "old", t0.Add(-50*time.Hour))
			f.maybe[k] = true
			f.try("append", func() error { return f.send(k) })
			f.forget(k)
		}
	}
	if _, reads := f.files.Failed(); !reads { // else its part may be left out
		f.try("append again", func() error { return f.send(f.keys[0]) })
	}
}

// doomed sends profiles of a service that is deleted later.
func (f *faultRun) doomed(n int) {
	f.t.Helper()
	for range n {
		k := f.make(700+len(f.gone), "deleted", t0.Add(time.Duration(len(f.gone))*time.Hour))
		f.try("append", func() error { return f.send(k) })
		f.gone = append(f.gone, k)
	}
}

// delete deletes them.
func (f *faultRun) delete() {
	f.t.Helper()
	for _, k := range f.gone {
		f.maybe[k] = true
	}
	f.try("delete", func() error {
		_, err := f.s.Delete(context.Background(), store.Deletion{Service: "deleted"})
		return err
	})
	f.forget(f.gone...)
}

func (f *faultRun) flush() { f.try("flush", func() error { return f.s.Flush(context.Background()) }) }

func (f *faultRun) settle() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	f.try("settle", func() error { return f.s.Settle(ctx) })
}

func (f *faultRun) reopen() {
	f.t.Helper()
	f.try("close", func() error { _ = f.s.Close(); f.s = nil; return nil })
	f.openAgain()
}

func (f *faultRun) openAgain() {
	f.t.Helper()
	f.try("open", f.tryOpen)
	f.try("ready", func() error { // the disk may fail until replay has read everything
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
			err := f.s.Ready()
			if failed, _ := f.files.Failed(); err == nil || failed != "" && !f.hurt || time.Now().After(end) {
				return err
			}
		}
	})
}

// run does the workload, and looks at what is left of it. It returns how many
// calls there were.
func (f *faultRun) run() map[string]int {
	f.t.Helper()
	f.openAgain()
	f.append(4)
	f.doomed(2)
	f.flush()
	f.append(4)
	f.upload()
	f.settle()
	f.flush()
	f.settle()
	f.look("rolled up")
	f.append(3)
	f.flush()
	f.later(30 * time.Hour) // the day of the profiles has ended
	f.settle()
	f.look("merged")
	f.doomed(1)
	f.delete()
	f.look("deleted")
	f.try("backup", func() error {
		_, err := f.s.BackupTar(context.Background(), io.Discard, nil, nil)
		return err
	})
	f.settle()
	f.append(3)
	// As after a power cut.
	f.try("cut", func() error {
		cut := copyFast(f.t, f.dir)
		_ = f.s.Close()
		os.RemoveAll(f.dir)
		f.s, f.dir = nil, cut
		return nil
	})
	f.openAgain()
	f.append(2)
	f.upload()
	f.settle()
	f.reopen()
	f.look("opened again")
	counts := f.files.Counts()
	f.finish()
	return counts
}

// finish repairs the disk and looks at everything, before and after another
// start.
func (f *faultRun) finish() {
	f.t.Helper()
	f.files.Repair()
	if err := f.s.Close(); err != nil {
		if failed, _ := f.files.Failed(); failed == "" {
			f.t.Fatalf("%s: %v", f.label, err)
		}
	}
	f.open()
	if q := f.s.Stats().Quarantined; len(q) > 0 {
		f.t.Fatalf("%s: %v", f.label, q)
	}
	f.check(f.label + ", at the end")
	if err := f.s.Settle(context.Background()); err != nil {
		f.t.Fatalf("%s: %v", f.label, err)
	}
	f.check(f.label + ", settled at the end")
	f.readBinaries(f.s)
	if st := f.s.BinaryStats(); st.Files != len(f.binaries) || st.Uploads != 0 {
		f.t.Fatalf("%s: %+v", f.label, st)
	}
	f.checkFiles(f.label)
}

// TestFaults lets every call of the file system fail, once and until the disk
// is repaired, with an error and for want of space: nothing that was
// acknowledged is lost, nothing is there twice, and without another start the
// store goes on once the disk works again. INQUEST_LONG=1 tries all of them.
func TestFaults(t *testing.T) {
	for mode := store.FailRead; mode < store.NumFaultModes; mode++ {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			counts := newFaultRun(t, mode).run()
			calls := counts[""]
			if mode == store.FailRead {
				t.Log(counts)
			}
			for _, kind := range []string{"open", "create", "write", "sync", "rename", "remove", "syncdir", "read", "readdir", "stat", "mkdir"} {
				if counts[kind] == 0 {
					t.Errorf("the workload makes no call of kind %s", kind)
				}
			}
			budget, most := 6*time.Second, calls
			switch {
			case os.Getenv("INQUEST_LONG") != "":
				budget = time.Hour
			case testing.Short():
				most = min(10, calls)
			}
			// In an order that covers all of the workload however early it ends.
			began, done := time.Now(), 0
			for _, n := range spread(calls) {
				if done >= most || time.Since(began) > budget {
					break
				}
				f := newFaultRun(t, mode)
				f.label = fmt.Sprintf("%s, call %d", mode, n)
				f.files.Arm(mode, n)
				f.run()
				os.RemoveAll(f.dir)
				done++
			}
			t.Logf("%d of %d calls in %v", done, calls, time.Since(began))
		})
	}
}

// spread lists the numbers below n so that every beginning of the list is
// spread over all of them.
func spread(n int) []int {
	frac := func(i int) float64 { x := float64(i+1) * 0.6180339887498949; return x - float64(int(x)) }
	// The position of number k is where its multiple of the golden ratio falls.
	order := make([]int, 0, n)
	seen := make([]bool, n)
	for i := 0; len(order) < n; i++ {
		k := int(frac(i) * float64(n))
		for seen[k] {
			k = (k + 1) % n
		}
		seen[k] = true
		order = append(order, k)
	}
	return order
}
