package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/spool"
	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, o spool.Options) *spool.Spool {
	t.Helper()
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func header(service string) spool.Header {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return spool.Header{
		Service: service, Instance: "h:1", Kind: inquest.KindHeap, Process: "p", Build: "b",
		Start: at, End: at.Add(time.Minute), Hold: time.Minute, Labels: map[string]string{"zone": "a"},
	}
}

// drain claims and reads everything that waits, in order.
func drain(t *testing.T, s *spool.Spool) (hs []spool.Header, bodies []string) {
	t.Helper()
	for {
		it, _, ok := s.Claim()
		if !ok {
			return hs, bodies
		}
		h, body, err := s.Read(it.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		hs, bodies = append(hs, h), append(bodies, string(body))
		s.Done(it.Sequence)
	}
}

func TestPutSurvivesReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	id := s.AgentID()
	var want []spool.Header
	for i := range 3 {
		h := header(fmt.Sprint("s", i))
		it, err := s.Put(h, []byte{byte('a' + i)}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		h.Sequence, h.Key, h.KeyText = it.Sequence, it.Key, it.Key.String()
		if got := binary.BigEndian.Uint64(it.Key[8:]); got != it.Sequence {
			t.Errorf("key %s ends in %d, want sequence %d", it.Key, got, it.Sequence)
		}
		want = append(want, h)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, spool.Options{Dir: dir})
	if s.AgentID() != id {
		t.Errorf("agent id %s after reopen, want %s", s.AgentID(), id)
	}
	got, bodies := drain(t, s)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, bodies); d != "" {
		t.Error(d)
	}
	it, err := s.Put(header("s"), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	if it.Sequence <= want[2].Sequence {
		t.Errorf("sequence %d after reopen, want above %d", it.Sequence, want[2].Sequence)
	}
	if !bytes.Equal(it.Key[:8], want[0].Key[:8]) {
		t.Errorf("key prefix changed over reopen: %s, %s", it.Key, want[0].Key)
	}
}

func TestSecondAgentIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	open(t, spool.Options{Dir: dir})
	if _, err := spool.Open(spool.Options{Dir: dir}); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("second Open: %v, want a conflict", err)
	}
}

func TestConcurrentPutsAreAllThereOnce(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			b := &spool.Baseline{Key: fmt.Sprint(i), Data: []byte("state")}
			if _, err := s.Put(header("s"), []byte(fmt.Sprint(i)), b, false); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	hs, bodies := drain(t, s)
	seen := map[string]bool{}
	for i, b := range bodies {
		if seen[b] {
			t.Errorf("%s twice", b)
		}
		seen[b] = true
		if i > 0 && hs[i].Sequence <= hs[i-1].Sequence {
			t.Errorf("sequence %d after %d", hs[i].Sequence, hs[i-1].Sequence)
		}
	}
	if len(seen) != 40 {
		t.Errorf("%d profiles, want 40", len(seen))
	}
	for i := range 40 {
		if _, ok := s.Baseline(fmt.Sprint(i)); !ok {
			t.Errorf("baseline %d is not there", i)
		}
	}
}

func TestQuotaDropsTheOldestVisibly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, QuotaBytes: 20_000})
	body := bytes.Repeat([]byte("x"), 3_000)
	var last uint64
	for i := range 20 {
		it, err := s.Put(header(fmt.Sprint(i)), body, nil, false)
		if err != nil {
			t.Fatal(err)
		}
		last = it.Sequence
		if st := s.Stats(); st.Bytes > 20_000 {
			t.Fatalf("%d bytes on disk after %d puts, quota 20000", st.Bytes, i+1)
		}
	}
	st := s.Stats()
	if st.Dropped == 0 || st.Dropped+st.Profiles != 20 {
		t.Errorf("dropped %d, waiting %d: want 20 together, some dropped", st.Dropped, st.Profiles)
	}
	if got := diskBytes(t, filepath.Join(dir, "queue")); got != st.Bytes {
		t.Errorf("%d bytes in the queue directory, stats say %d", got, st.Bytes)
	}
	hs, _ := drain(t, s)
	if hs[len(hs)-1].Sequence != last {
		t.Errorf("newest waiting is %d, want %d", hs[len(hs)-1].Sequence, last)
	}
	if _, err := s.Put(header("big"), bytes.Repeat([]byte("x"), 30_000), nil, false); !errors.Is(err, inquest.ErrDiskFull) {
		t.Errorf("a profile above the quota: %v, want disk full", err)
	}
	if st := s.Stats(); st.Bytes != 0 {
		t.Errorf("%d bytes in an empty spool", st.Bytes)
	}
}

func diskBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

func TestOldProfilesAreDropped(t *testing.T) {
	now := time.Now()
	s := open(t, spool.Options{Dir: t.TempDir(), Now: func() time.Time { return now }})
	if _, err := s.Put(header("old"), nil, nil, false); err != nil {
		t.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	if _, _, ok := s.Claim(); ok {
		t.Error("a profile older than the collector remembers keys was handed out")
	}
	if st := s.Stats(); st.Dropped != 1 || st.Profiles != 0 {
		t.Errorf("dropped %d, waiting %d, want 1, 0", st.Dropped, st.Profiles)
	}
}

func TestReturnRefuseAndOrder(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir, Now: func() time.Time { return now }})
	for i := range 3 {
		if _, err := s.Put(header(fmt.Sprint(i)), nil, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	first, _, _ := s.Claim()
	second, _, _ := s.Claim()
	s.Return(first.Sequence, now.Add(time.Minute), "collector away")
	s.Refuse(second.Sequence, "400: no such kind")
	third, _, ok := s.Claim()
	if !ok || third.Sequence != second.Sequence+1 {
		t.Fatalf("third claim: %+v %v", third, ok)
	}
	s.Done(third.Sequence)
	if _, wait, ok := s.Claim(); ok || wait != time.Minute {
		t.Errorf("claim of a returned profile: ok %v, wait %v, want to wait a minute", ok, wait)
	}
	now = now.Add(time.Minute)
	again, _, ok := s.Claim()
	if !ok || again.Sequence != first.Sequence || again.Attempts != 1 {
		t.Errorf("claim after the pause: %+v %v", again, ok)
	}
	reason, err := os.ReadFile(filepath.Join(dir, "refused", fmt.Sprintf("%016x.profile.reason", second.Sequence)))
	if err != nil || string(reason) != "400: no such kind\n" {
		t.Errorf("reason of the refusal: %q, %v", reason, err)
	}
	st := s.Stats()
	if st.Refused != 1 || st.Shipped != 1 || st.Profiles != 1 {
		t.Errorf("stats %+v", st)
	}
	for range 40 {
		it, err := s.Put(header("r"), nil, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		s.Refuse(it.Sequence, "no")
	}
	list, err := os.ReadDir(filepath.Join(dir, "refused"))
	if err != nil || len(list) > 32 {
		t.Errorf("%d files kept of refused profiles, want at most 32 (%v)", len(list), err)
	}
}

func TestDamagedFilesAreMovedAside(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	it, err := s.Put(header("s"), []byte("body"), &spool.Baseline{Key: "k", Data: []byte("state")}, false)
	if err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "queue", fmt.Sprintf("%016x.profile", it.Sequence)))
	names, err := filepath.Glob(filepath.Join(dir, "baselines", "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	flip(t, names[0])
	if _, ok := s.Baseline("k"); ok {
		t.Error("a damaged baseline was handed out")
	}
	if it, _, ok := s.Claim(); !ok {
		t.Error("nothing to claim")
	} else if _, _, err := s.Read(it.Sequence); !errors.Is(err, inquest.ErrInvalid) {
		t.Errorf("read of a damaged profile: %v", err)
	}
	if s.Stats().Profiles != 0 || s.Damaged() != 2 {
		t.Errorf("waiting %d, damaged %d, want 0, 2", s.Stats().Profiles, s.Damaged())
	}
	if list, _ := os.ReadDir(filepath.Join(dir, "damaged")); len(list) != 2 {
		t.Errorf("%d files set aside, want 2", len(list))
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLostSequenceTakesANewIdentity(t *testing.T) {
	for _, damage := range []string{"", "garbage"} {
		dir := t.TempDir()
		s := open(t, spool.Options{Dir: dir})
		it, err := s.Put(header("s"), nil, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		s.Done(it.Sequence)
		_ = s.Close()
		if err := os.WriteFile(filepath.Join(dir, "sequence"), []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, spool.Options{Dir: dir})
		again, err := s.Put(header("s"), nil, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if again.Key == it.Key {
			t.Errorf("key %s given to two profiles", it.Key)
		}
	}
}

func TestForgetKeepsWhatIsInUse(t *testing.T) {
	s := open(t, spool.Options{Dir: t.TempDir()})
	for _, k := range []string{"a", "b"} {
		if _, err := s.Put(header("s"), nil, &spool.Baseline{Key: k}, false); err != nil {
			t.Fatal(err)
		}
	}
	s.Forget(time.Now().Add(time.Hour), map[string]bool{"a": true})
	if _, ok := s.Baseline("a"); !ok {
		t.Error("baseline a is gone")
	}
	if _, ok := s.Baseline("b"); ok {
		t.Error("baseline b is still there")
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestCrashBetweenAnyTwoFileOperations counts a cumulative value up, spools
// the differences and ships some, while after every single file operation the
// directory is copied as a crash would leave it. From each copy the agent
// goes on with the next cumulative value: what was shipped before plus what
// it ships then must be exactly that value, each amount once.
func TestCrashBetweenAnyTwoFileOperations(t *testing.T) {
	type crash struct {
		dir     string
		op      string
		shipped map[inquest.Key]uint64 // what the collector has by then
	}
	root, dir := t.TempDir(), t.TempDir()
	shipped := map[inquest.Key]uint64{}
	var crashes []crash
	snap := func(op string) {
		c := crash{dir: filepath.Join(root, fmt.Sprint(len(crashes))), op: op, shipped: map[inquest.Key]uint64{}}
		for k, v := range shipped {
			c.shipped[k] = v
		}
		copyDir(t, dir, c.dir)
		crashes = append(crashes, c)
	}
	s := open(t, spool.Options{Dir: dir, AfterOp: snap})
	for i := range 4 {
		step(t, s, uint64(100*(i+1)))
		if i%2 == 1 {
			ship(t, s, shipped)
		}
	}
	for _, c := range crashes {
		s, err := spool.Open(spool.Options{Dir: c.dir})
		if err != nil {
			t.Fatalf("open after a crash at %q: %v", c.op, err)
		}
		step(t, s, 1000)
		ship(t, s, c.shipped)
		var sum uint64
		for _, v := range c.shipped {
			sum += v
		}
		if sum != 1000 {
			t.Errorf("crash after %q: %d counted, want 1000", c.op, sum)
		}
		_ = s.Close()
	}
	if len(crashes) < 40 {
		t.Errorf("only %d file operations seen", len(crashes))
	}
}

// step spools the difference to the baseline, whose first value is 0.
func step(t *testing.T, s *spool.Spool, total uint64) {
	t.Helper()
	var last uint64
	if b, ok := s.Baseline("k"); ok {
		last = binary.BigEndian.Uint64(b.Data)
	}
	body := binary.BigEndian.AppendUint64(nil, total-last)
	base := &spool.Baseline{Key: "k", Data: binary.BigEndian.AppendUint64(nil, total)}
	if _, err := s.Put(header("s"), body, base, false); err != nil {
		t.Fatal(err)
	}
}

// ship moves everything to a collector that knows keys.
func ship(t *testing.T, s *spool.Spool, to map[inquest.Key]uint64) {
	t.Helper()
	for {
		it, _, ok := s.Claim()
		if !ok {
			return
		}
		h, body, err := s.Read(it.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		v := binary.BigEndian.Uint64(body)
		if old, ok := to[h.Key]; ok && old != v {
			t.Errorf("key %s came with %d and %d", h.Key, old, v)
		}
		to[h.Key] = v
		s.Done(it.Sequence)
	}
}

func TestFailedPutLeavesTheBaseline(t *testing.T) {
	dir := t.TempDir()
	s := open(t, spool.Options{Dir: dir})
	step(t, s, 100)
	queue := filepath.Join(dir, "queue")
	if err := os.Rename(queue, queue+".away"); err != nil {
		t.Fatal(err)
	}
	base := &spool.Baseline{Key: "k", Data: binary.BigEndian.AppendUint64(nil, 200)}
	if _, err := s.Put(header("s"), nil, base, false); err == nil {
		t.Fatal("put into a directory that is gone succeeded")
	}
	before := s.Stats()
	if err := os.Rename(queue+".away", queue); err != nil {
		t.Fatal(err)
	}
	b, ok := s.Baseline("k")
	if !ok || binary.BigEndian.Uint64(b.Data) != 100 {
		t.Errorf("baseline after a failed put: %v %v, want 100", b, ok)
	}
	step(t, s, 300)
	if got := s.Stats(); got.Profiles != 2 || before.LastError == "" {
		t.Errorf("waiting %d, want 2; error %q", got.Profiles, before.LastError)
	}
}

func FuzzParseProfile(f *testing.F) {
	dir := f.TempDir()
	s, err := spool.Open(spool.Options{Dir: dir})
	if err != nil {
		f.Fatal(err)
	}
	it, err := s.Put(header("s"), []byte("body"), nil, false)
	if err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(filepath.Join(dir, "queue", fmt.Sprintf("%016x.profile", it.Sequence)))
	if err != nil {
		f.Fatal(err)
	}
	_ = s.Close()
	f.Add(seed)
	f.Add(seed[:len(seed)-1])
	f.Add([]byte("INQSPP01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, body, err := spool.ParseProfile(data)
		if err != nil && !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("error of another kind: %v", err)
		}
		if len(body) > len(data) {
			t.Error("body is longer than the file")
		}
		_, _ = io.Discard.Write(body)
	})
}
