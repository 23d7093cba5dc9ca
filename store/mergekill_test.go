package store_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

const (
	mergeChildDir  = "INQUEST_TEST_MERGE_DIR"
	mergeChildFrom = "INQUEST_TEST_MERGE_FROM"
)

// TestMergeChild is what TestMergeKill kills: it stores profiles, ends epochs
// and merges blocks until then, and says what it does.
func TestMergeChild(t *testing.T) {
	dir := os.Getenv(mergeChildDir)
	if dir == "" {
		t.Skip("runs as a child of TestMergeKill")
	}
	s := open(t, dir, store.SmallMerges)
	waitReady(t, s)
	d := profile.NewDecoder(profile.Limits{})
	n := 0
	if _, err := fmt.Sscan(os.Getenv(mergeChildFrom), &n); err != nil {
		t.Fatal(err)
	}
	for {
		for range 3 {
			for range 4 {
				r := record(t, d, n, fmt.Sprint("odd", n%3), inquest.KindOther, encode(t, oddProfile(n)))
				r.BodyHash = uint64(n) // a process before may have stored it without saying so
				if _, err := s.Append(context.Background(), r); err != nil {
					t.Fatal(err)
				}
				fmt.Println("stored", n)
				n++
			}
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Println("merging", n)
		if err := s.MarkRolled(); err != nil {
			t.Fatal(err)
		}
		if err := s.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
		fmt.Println("merged", n)
	}
}

// TestMergeKill kills a process that merges, at any moment: what was
// acknowledged is there, once.
func TestMergeKill(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	rnd := rand.New(rand.NewPCG(4, 1))
	dir, next := t.TempDir(), 0
	took := 20 * time.Millisecond // a merge
	merged := 0
	for round := range rounds {
		if round%20 == 0 { // so that there are merges of few and of many
			dir, next = t.TempDir(), 0
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestMergeChild$")
		cmd.Env = append(os.Environ(), mergeChildDir+"="+dir, fmt.Sprint(mergeChildFrom, "=", next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines, began, said := bufio.NewScanner(out), time.Now(), ""
		skip := rnd.IntN(3) // merges to let through
		for lines.Scan() {
			what, n := "", 0
			said += lines.Text() + "\n"
			if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
				continue
			}
			switch what {
			case "stored":
				next = n + 1
			case "merging":
				if began = time.Now(); skip == 0 {
					time.AfterFunc(time.Duration(rnd.Int64N(int64(took)+1)), func() { _ = cmd.Process.Kill() })
				}
				skip--
			case "merged":
				took = (3*took + time.Since(began)) / 4
				merged++
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("round %d: the child ended by itself: %v, %s", round, err, said)
		}
		checkKilled(t, fmt.Sprint("round ", round), dir, next)
	}
	t.Logf("%d merges ended, %v the last ones", merged, took)
}

// checkKilled looks at what a killed process left: profiles before next, and
// maybe one more that was not acknowledged any more.
func checkKilled(t *testing.T, when, dir string, next int) {
	t.Helper()
	cut := copyDir(t, dir)
	s := open(t, cut)
	waitReady(t, s)
	got := stored(t, s) // fails for what is there twice
	for i := range next {
		if got[key(i)] == "" {
			t.Fatalf("%s: profile %d of %d is lost", when, i, next)
		}
	}
	if len(got) > next+1 {
		t.Fatalf("%s: %d profiles, want %d", when, len(got), next)
	}
	if q := s.Stats().Quarantined; len(q) > 0 {
		t.Fatalf("%s: %v", when, q)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(cut)
	// The same without the catalog.
	cut = copyDir(t, dir)
	if err := os.Remove(filepath.Join(cut, "catalog.db")); err != nil {
		t.Fatal(err)
	}
	s = open(t, cut)
	waitReady(t, s)
	if again := stored(t, s); len(again) != len(got) {
		t.Fatalf("%s: %d profiles without the catalog, %d with it", when, len(again), len(got))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	os.RemoveAll(cut)
}
