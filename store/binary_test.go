package store_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// fakeBinary is a file that fakeIdentify understands: a line of words, then
// words.
func fakeBinary(id, code string, dwarf bool, size int) []byte {
	raw := fmt.Appendf(nil, "BINARY %s %s %t\n", id, code, dwarf)
	rnd := rand.New(rand.NewPCG(1, uint64(len(id)+len(code))))
	for len(raw) < size {
		raw = fmt.Appendf(raw, "word%d ", rnd.IntN(1000))
	}
	return raw[:max(size, bytes.IndexByte(raw, '\n')+1)]
}

// fakeIdentify is what stands in the first line of fakeBinary.
func fakeIdentify(r io.ReaderAt, size int64) (*inquest.Binary, error) {
	head := make([]byte, min(size, 200))
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	b := &inquest.Binary{Kind: inquest.BinaryExecutable}
	code := ""
	if _, err := fmt.Sscanf(string(head), "BINARY %s %s %t\n", &b.ID, &code, &b.DWARF); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "this is no binary")
	}
	if !strings.HasPrefix(b.ID, "go-") {
		b.GNUBuildID = b.ID
	}
	b.GoBuildID = "action/" + b.ID
	b.Sections = []inquest.Section{{Name: ".text", SHA256: code}}
	return b, nil
}

func shaOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// upload uploads a binary in one go.
func upload(s *store.Store, raw []byte, p store.Provenance) (*store.StoredBinary, error) {
	at, stored, err := s.BeginUpload(shaOf(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	if !stored {
		if _, err := s.AppendUpload(context.Background(), shaOf(raw), at, bytes.NewReader(raw[at:])); err != nil {
			return nil, err
		}
	}
	return s.CommitUpload(shaOf(raw), p, fakeIdentify)
}

func mustUpload(t *testing.T, s *store.Store, raw []byte, source string) *store.StoredBinary {
	t.Helper()
	b, err := upload(s, raw, store.Provenance{By: "tester", Source: source})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readBinary reads a stored binary.
func readBinary(t *testing.T, s *store.Store, sha string) []byte {
	t.Helper()
	f, err := s.OpenBinary(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func shas(list []store.StoredBinary) (out []string) {
	for _, b := range list {
		out = append(out, b.SHA256)
	}
	return out
}

func TestBinaryRoundTrip(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	for i, size := range []int{40, 256 << 10, 256<<10 + 1, 3 << 20} {
		raw := fakeBinary(fmt.Sprint("id", i), "code", true, size)
		b := mustUpload(t, v.s, raw, store.SourceCI)
		if b.SHA256 != shaOf(raw) || b.Bytes != int64(len(raw)) || b.By != "tester" {
			t.Errorf("stored as %+v", b)
		}
		if size > 1<<20 && b.StoredBytes > b.Bytes*7/10 {
			t.Errorf("%d bytes take %d on the disk", b.Bytes, b.StoredBytes)
		}
		if !bytes.Equal(readBinary(t, v.s, b.SHA256), raw) {
			t.Errorf("binary of %d bytes is read with others", size)
		}
		f, err := v.s.OpenBinary(b.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(1, 2))
		for range 50 {
			from := rnd.IntN(len(raw))
			part := make([]byte, rnd.IntN(len(raw)-from)+1)
			if n, err := f.ReadAt(part, int64(from)); err != nil || !bytes.Equal(part[:n], raw[from:from+len(part)]) {
				t.Fatalf("%d bytes at %d: %d, %v", len(part), from, n, err)
			}
		}
		if _, err := f.ReadAt(make([]byte, 2), f.Size()-1); !errors.Is(err, io.EOF) {
			t.Errorf("read beyond the end: %v", err)
		}
		f.Close()
		want, err := v.s.Binary(b.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b); diff != "" {
			t.Error(diff)
		}
	}
	if again := mustUpload(t, v.s, fakeBinary("id0", "code", true, 40), store.SourceAgent); again.Source != store.SourceCI {
		t.Errorf("the same bytes are of source %s now", again.Source)
	}
	if n := v.s.BinaryStats().Files; n != 4 {
		t.Errorf("%d files", n)
	}
	v.s.Close()
	v.open()
	if got := v.s.Binaries("id3"); len(got) != 1 || !got[0].DWARF || len(got[0].Sections) != 0 {
		t.Errorf("after a start: %+v", got)
	}
}

func TestBinaryCandidates(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	var want []string
	put := func(n int, dwarf bool, source string) string {
		v.later(time.Minute)
		return mustUpload(t, v.s, fakeBinary("id", "code", dwarf, 100+n), source).SHA256
	}
	stripped := put(1, false, store.SourceCI)
	agent := put(2, true, store.SourceAgent)
	ci := put(3, true, store.SourceCI)
	ci2 := put(4, true, store.SourceCI)
	late := put(5, false, store.SourceAgent)
	want = []string{ci2, ci, agent, stripped, late}
	if diff := cmp.Diff(want, shas(v.s.Binaries("id"))); diff != "" {
		t.Error(diff)
	}
	sum := sha256.Sum256([]byte("action/id"))
	if got := v.s.Binaries("go-" + hex.EncodeToString(sum[:])); len(got) != 5 || got[0].Conflict {
		t.Errorf("by the id of Go: %+v", got)
	}
	mustUpload(t, v.s, fakeBinary("id", "other", true, 200), store.SourceCI)
	for _, b := range v.s.Binaries("id") {
		if !b.Conflict {
			t.Errorf("%s does not show the conflict", b.SHA256)
		}
	}
	for n := range 6 {
		put(10+n, true, store.SourceCI)
	}
	if err := v.s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := v.s.BinaryStats().Files; n != 8 || len(v.s.Binaries("id")) != 8 {
		t.Errorf("%d files, %d candidates, want 8", n, len(v.s.Binaries("id")))
	}
	if _, err := v.s.OpenBinary(late); !errors.Is(err, inquest.ErrNotFound) {
		t.Errorf("the worst of nine: %v", err)
	}
}

func TestUpload(t *testing.T) {
	v := newSurvivor(t, func(o *store.Options) { o.BinaryBytes = 1 << 20 })
	v.open()
	raw := fakeBinary("id", "code", true, 700<<10)
	sha, size := shaOf(raw), int64(len(raw))
	ctx := context.Background()
	begin := func(want int64) {
		t.Helper()
		if at, stored, err := v.s.BeginUpload(sha, size); at != want || stored || err != nil {
			t.Fatalf("begin: %d, %t, %v; want %d", at, stored, err, want)
		}
	}
	begin(0)
	if n, err := v.s.AppendUpload(ctx, sha, 0, bytes.NewReader(raw[:300<<10])); n != 300<<10 || err != nil {
		t.Fatal(n, err)
	}
	broken := errors.New("connection lost")
	if n, err := v.s.AppendUpload(ctx, sha, 300<<10, io.MultiReader(bytes.NewReader(raw[300<<10:400<<10]), errReader{broken})); n != 400<<10 || !errors.Is(err, broken) {
		t.Fatal(n, err)
	}
	begin(400 << 10)
	if n, err := v.s.AppendUpload(ctx, sha, 300<<10, bytes.NewReader(raw)); n != 400<<10 || !errors.Is(err, inquest.ErrConflict) {
		t.Fatal(n, err)
	}
	if _, err := v.s.CommitUpload(sha, store.Provenance{}, fakeIdentify); !errors.Is(err, inquest.ErrConflict) {
		t.Fatal(err)
	}
	v.s.Close()
	v.open()
	begin(400 << 10)
	if _, err := v.s.AppendUpload(ctx, sha, 400<<10, io.MultiReader(bytes.NewReader(raw[400<<10:]), strings.NewReader("x"))); !errors.Is(err, inquest.ErrTooLarge) {
		t.Fatal(err)
	}
	at, _, _ := v.s.BeginUpload(sha, size)
	if _, err := v.s.AppendUpload(ctx, sha, at, bytes.NewReader(raw[at:])); err != nil {
		t.Fatal(err)
	}
	b, err := v.s.CommitUpload(sha, store.Provenance{ID: "id", Source: store.SourceCI}, fakeIdentify)
	if err != nil || b.ID != "id" {
		t.Fatal(b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(v.dir, "uploads", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if at, stored, err := v.s.BeginUpload(sha, size); at != size || !stored || err != nil {
		t.Errorf("of what is stored: %d, %t, %v", at, stored, err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestUploadRefused(t *testing.T) {
	v := newSurvivor(t, func(o *store.Options) { o.BinaryBytes = 1 << 20 })
	v.open()
	raw := fakeBinary("id", "code", true, 1000)
	tests := []struct {
		name string
		do   func() error
		kind error
		says string
	}{
		{"no hash", func() error { _, _, err := v.s.BeginUpload("abc", 5); return err }, inquest.ErrInvalid, "64 hex digits"},
		{"no size", func() error { _, _, err := v.s.BeginUpload(shaOf(raw), 0); return err }, inquest.ErrInvalid, "size"},
		{"large", func() error { _, _, err := v.s.BeginUpload(shaOf(raw), 2<<20); return err }, inquest.ErrTooLarge, "1048576 bytes"},
		{"other size", func() error {
			if _, _, err := v.s.BeginUpload(shaOf(raw), 1000); err != nil {
				return err
			}
			_, _, err := v.s.BeginUpload(shaOf(raw), 1001)
			return err
		}, inquest.ErrConflict, "announced with 1000 bytes before, now with 1001"},
		{"not begun", func() error {
			_, err := v.s.CommitUpload(shaOf([]byte("x")), store.Provenance{}, fakeIdentify)
			return err
		}, inquest.ErrNotFound, "no upload"},
		{"other id", func() error {
			_, err := upload(v.s, raw, store.Provenance{ID: "another"})
			return err
		}, inquest.ErrConflict, "is build id or go-"},
		{"no binary", func() error { _, err := upload(v.s, []byte("text"), store.Provenance{}); return err }, inquest.ErrInvalid, "no binary"},
		{"other bytes", func() error {
			other := fakeBinary("id", "c0de", true, 1000)
			if _, _, err := v.s.BeginUpload(shaOf(raw), 1000); err != nil {
				return err
			}
			if _, err := v.s.AppendUpload(context.Background(), shaOf(raw), 0, bytes.NewReader(other)); err != nil {
				return err
			}
			_, err := v.s.CommitUpload(shaOf(raw), store.Provenance{}, fakeIdentify)
			return err
		}, inquest.ErrInvalid, "SHA-256"},
		{"put too large", func() error {
			_, err := v.s.PutBinary(context.Background(), bytes.NewReader(raw), 999, store.Provenance{}, fakeIdentify)
			return err
		}, inquest.ErrTooLarge, "999 bytes"},
		{"put nothing", func() error {
			_, err := v.s.PutBinary(context.Background(), strings.NewReader(""), 999, store.Provenance{}, fakeIdentify)
			return err
		}, inquest.ErrInvalid, "empty"},
	}
	for _, test := range tests {
		if err := test.do(); !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v with %q", test.name, err, test.kind, test.says)
		}
	}
	if st := v.s.BinaryStats(); st.Files != 0 || st.Uploads != 0 {
		t.Errorf("left: %+v", st)
	}
	if b, err := v.s.PutBinary(context.Background(), bytes.NewReader(raw), 1000, store.Provenance{Source: store.SourceCI}, fakeIdentify); err != nil || b.SHA256 != shaOf(raw) {
		t.Errorf("put: %v, %v", b, err)
	}
	for _, dir := range []string{"uploads", "binaries"} {
		files, err := os.ReadDir(filepath.Join(v.dir, dir))
		if err != nil || len(files) != strings.Count(dir, "binaries") {
			t.Errorf("%s has %v, %v", dir, files, err)
		}
	}
}

func TestUploadsAreBounded(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	for n := range 64 {
		if _, _, err := v.s.BeginUpload(shaOf([]byte{byte(n)}), 10); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := v.s.BeginUpload(shaOf(nil), 10); !errors.Is(err, inquest.ErrBusy) {
		t.Errorf("one more: %v", err)
	}
	v.later(2 * time.Hour)
	if _, _, err := v.s.BeginUpload(shaOf(nil), 10); err != nil {
		t.Errorf("once the others rest: %v", err)
	}
	v.later(25 * time.Hour)
	if err := v.s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := v.s.BinaryStats().Uploads; n != 0 {
		t.Errorf("%d uploads after a day", n)
	}
}

func TestBinaryTables(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	b := mustUpload(t, v.s, fakeBinary("id", "code", true, 1000), store.SourceCI)
	put := func(version int, text string) {
		t.Helper()
		if err := v.s.PutTable(b.SHA256, version, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
			t.Fatal(err)
		}
	}
	get := func(version int) string {
		f, err := v.s.OpenTable(b.SHA256, version)
		if err != nil {
			return err.Error()
		}
		defer f.Close()
		n, _ := f.Size()
		raw := make([]byte, n)
		if _, err := f.ReadAt(raw, 0); err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	put(1, "one")
	put(1, "uno")
	put(2, "two")
	if got := get(2); got != "two" {
		t.Error(got)
	}
	if got := get(1); !strings.Contains(got, "no table of version 1") {
		t.Error(got)
	}
	if err := v.s.PutTable(shaOf(nil), 1, nil); !errors.Is(err, inquest.ErrNotFound) {
		t.Error(err)
	}
	v.s.Close()
	v.open()
	if got := get(2); got != "two" {
		t.Error(got)
	}
	v.later(31 * 24 * time.Hour)
	if err := v.s.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(filepath.Join(v.dir, "binaries")); len(files) > 0 {
		t.Errorf("left behind: %v", files)
	}
}

// noteData stores a profile of a build.
func noteData(t *testing.T, v *survivor, n int, service, build string, start time.Time) {
	t.Helper()
	k := v.make(n, service, start)
	x := v.records[k]
	x.meta.Labels = inquest.NewLabels(map[string]string{"service": service, "instance": "i", "build": build})
	v.records[k] = x
	if err := v.send(k); err != nil {
		t.Fatal(err)
	}
}

func TestSeenBuilds(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	noteData(t, v, 1, "a", "b1", t0.Add(time.Hour))
	noteData(t, v, 2, "a", "b1", t0)
	noteData(t, v, 3, "b", "b1", t0.Add(2*time.Hour))
	noteData(t, v, 4, "b", "b2", t0)
	want := map[string][]store.SeenBuild{
		"b1": {{Service: "a", First: t0, Last: t0.Add(time.Hour)}, {Service: "b", First: t0.Add(2 * time.Hour), Last: t0.Add(2 * time.Hour)}},
		"b2": {{Service: "b", First: t0, Last: t0}},
	}
	look := func(when string) {
		t.Helper()
		if diff := cmp.Diff(want, v.s.SeenBuilds()); diff != "" {
			t.Error(when, diff)
		}
	}
	look("at once")
	v.s.Close()
	v.open()
	look("after a start")
	noteData(t, v, 5, "deleted", "b2", t0)
	if _, err := v.s.Delete(context.Background(), store.Deletion{Service: "deleted"}); err != nil {
		t.Fatal(err)
	}
	look("after a deletion")
	settle(t, v.s)
	v.s.Close()
	if err := os.Remove(filepath.Join(v.dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	v.open()
	settle(t, v.s)
	// Parts say of all their builds what they know of one.
	for build, services := range v.s.SeenBuilds() {
		if len(services) != len(want[build]) {
			t.Errorf("without the catalog: %s is seen in %v", build, services)
		}
		for i, s := range services {
			if s.Last.Before(want[build][i].Last) || s.First.After(want[build][i].First) {
				t.Errorf("without the catalog: %s is seen in %v, want %v at least", build, s, want[build][i])
			}
		}
	}
}

func TestBinaryRetention(t *testing.T) {
	day := 24 * time.Hour
	v := newSurvivor(t, func(o *store.Options) {
		o.Retention = store.Retention{Raw: 10 * day, FiveMinutes: 20 * day, Hour: 20 * day, Day: 50 * day, BinariesUnused: 5 * day}
	})
	v.open()
	mustUpload(t, v.s, fakeBinary("used", "c", true, 1000), store.SourceCI)
	mustUpload(t, v.s, fakeBinary("idle", "c", true, 1000), store.SourceCI)
	noteData(t, v, 1, "a", "used", t0)
	left := func(want ...string) {
		t.Helper()
		settle(t, v.s)
		var got []string
		for _, id := range []string{"used", "idle", "late"} {
			if len(v.s.Binaries(id)) > 0 {
				got = append(got, id)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	v.later(4 * day)
	left("used", "idle")
	v.later(2 * day)
	left("used")
	v.later(43 * day)
	left("used")
	v.later(2 * day)
	left()

	// Beyond the bound what is needed least goes first.
	noteData(t, v, 2, "a", "used", t0.Add(51*day))
	mustUpload(t, v.s, fakeBinary("used", "c", true, 1000), store.SourceCI)
	mustUpload(t, v.s, fakeBinary("idle", "c", true, 1000), store.SourceCI)
	v.later(time.Hour)
	mustUpload(t, v.s, fakeBinary("late", "c", true, 1000), store.SourceCI)
	left("used", "idle", "late")
	policy := v.s.Retention()
	policy.BinariesMaxBytes = v.s.BinaryStats().Bytes - 1
	if err := v.s.SetRetention(policy); err != nil {
		t.Fatal(err)
	}
	left("used", "late")
	policy.BinariesMaxBytes = v.s.BinaryStats().Bytes - 1
	if err := v.s.SetRetention(policy); err != nil {
		t.Fatal(err)
	}
	left("used")
	if n := v.s.BinaryStats().Evicted; n != 2 {
		t.Errorf("%d evicted", n)
	}
}

// TestBinaryCare loses rows and files of binaries, and makes backups.
func TestBinaryCare(t *testing.T) {
	ctx := context.Background()
	v := newSurvivor(t)
	v.open()
	b := mustUpload(t, v.s, fakeBinary("one", "c", true, 600<<10), store.SourceCI)
	two := mustUpload(t, v.s, fakeBinary("two", "c", true, 1000), store.SourceCI)
	raw := readBinary(t, v.s, b.SHA256)
	if err := v.s.PutTable(b.SHA256, 1, func(w io.Writer) error { _, err := w.Write(raw[:10]); return err }); err != nil {
		t.Fatal(err)
	}
	backup, restored := fastDir(t), filepath.Join(fastDir(t), "restored")
	for range 2 {
		m, err := v.s.BackupDir(ctx, backup, nil)
		if err != nil || m.Binaries != 2 {
			t.Fatalf("%+v, %v", m, err)
		}
	}
	if _, err := store.RestoreDir(ctx, backup, store.RestoreOptions{Dir: restored}); err != nil {
		t.Fatal(err)
	}
	back := survivorIn(t, restored)
	back.open()
	if !bytes.Equal(readBinary(t, back.s, b.SHA256), raw) || len(back.s.Binaries("two")) != 1 {
		t.Error("restored with other bytes")
	}
	report, err := v.s.Check(ctx, true, nil)
	if err != nil || !report.Whole() || report.Binaries != 2 {
		t.Errorf("%+v, %v", report, err)
	}
	v.s.Close()
	check := func(repair bool, want ...string) {
		t.Helper()
		report, err := store.Check(ctx, store.CheckOptions{Dir: v.dir, Repair: repair, Deep: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range report.Problems {
			got = append(got, p.Where)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff, report.Problems)
		}
	}
	check(false)
	if err := os.Remove(filepath.Join(v.dir, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	lost := copyFast(t, v.dir)
	check(true) // an empty store but for binaries is a new one
	v.dir = lost
	v.open()
	if !bytes.Equal(readBinary(t, v.s, b.SHA256), raw) {
		t.Error("without the catalog it is read with other bytes")
	}
	v.s.Close()

	file := filepath.Join(v.dir, "binaries", b.SHA256+".bin")
	stored, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stored[1000]++
	if err := os.WriteFile(file, stored, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(v.dir, "binaries", two.SHA256+".bin")); err != nil {
		t.Fatal(err)
	}
	names := []string{"binaries/" + b.SHA256 + ".bin", "binaries/" + two.SHA256 + ".bin"}
	if two.SHA256 < b.SHA256 {
		names[0], names[1] = names[1], names[0]
	}
	check(false, names...)
	check(true, names...)
	check(false)
	v.open()
	if n := v.s.BinaryStats().Files; n != 0 {
		t.Errorf("%d files are left", n)
	}
	mustUpload(t, v.s, raw, store.SourceCI)
}

// BenchmarkSeen measures what noting the build costs a profile.
func BenchmarkSeen(b *testing.B) {
	s, err := store.Open(context.Background(), store.Options{Dir: b.TempDir(), Idle: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	note := s.SeenNoter()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := int64(0); pb.Next(); n++ {
			note("0123456789abcdef0123456789abcdef01234567", "service", n)
		}
	})
}

// Of a file with one wrong byte nothing else is read than what was stored.
func TestBinaryFlips(t *testing.T) {
	v := newSurvivor(t)
	v.open()
	raw := fakeBinary("id", "code", true, 900<<10)
	b := mustUpload(t, v.s, raw, store.SourceCI)
	file, err := v.s.BinaryFile(b.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for n := range 2000 {
		at := rnd.IntN(len(file))
		if n < 400 {
			at = len(file) - 1 - n // index, document and footer
		}
		old := file[at]
		file[at] ^= 1 << rnd.IntN(8)
		if row, got, err := store.ReadBinaryFile(file); err == nil {
			t.Fatalf("byte %d of %d flipped: %+v, %d bytes", at, len(file), row, len(got))
		}
		file[at] = old
		if n%100 == 0 {
			if _, _, err := store.ReadBinaryFile(file[:at]); err == nil {
				t.Fatalf("cut off at %d: no error", at)
			}
		}
	}
	if _, got, err := store.ReadBinaryFile(file); err != nil || !bytes.Equal(got, raw) {
		t.Fatalf("whole: %d bytes, %v", len(got), err)
	}
}

func FuzzBinaryFile(f *testing.F) {
	s, err := store.Open(context.Background(), store.Options{Dir: f.TempDir(), Idle: true})
	if err != nil {
		f.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int{40, 300 << 10} {
		b, err := upload(s, fakeBinary("id", "code", true, size), store.Provenance{Source: store.SourceCI})
		if err != nil {
			f.Fatal(err)
		}
		file, err := s.BinaryFile(b.SHA256)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		row, raw, err := store.ReadBinaryFile(file)
		if err == nil && row.Bytes < 1<<20 && int64(len(raw)) != row.Bytes {
			t.Errorf("%d bytes of %d", len(raw), row.Bytes)
		}
	})
}
