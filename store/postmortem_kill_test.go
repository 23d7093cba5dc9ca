package store_test

import (
	"bufio"
	"bytes"
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
	"github.com/goinquest/inquest/store"
)

const (
	killCoresDir  = "INQUEST_TEST_KILL_CORES_DIR"
	killCoresFrom = "INQUEST_TEST_KILL_CORES_FROM"
)

// TestKillPostmortemChild is what TestKillPostmortem kills: it stores crashes
// with texts and cores, and deletes some of these.
func TestKillPostmortemChild(t *testing.T) {
	dir := os.Getenv(killCoresDir)
	if dir == "" {
		t.Skip("runs as a child of TestKillPostmortem")
	}
	from := 0
	if _, err := fmt.Sscan(os.Getenv(killCoresFrom), &from); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, func(o *store.Options) { o.Retention.CoresMore = 100 })
	for n := from; ; n++ {
		c := crashOf(n, "shop", "k1")
		l, im, _ := coreOf(t, &c, 3, 1)
		fmt.Println("begin", n)
		if _, err := sendCore(s, &c, l, im, inquest.TierFull); err != nil {
			panic(err)
		}
		fmt.Println("core", n)
		if err := s.PutCrashText(context.Background(), c.ID, fmt.Appendf(nil, "panic: %d", n)); err != nil {
			panic(err)
		}
		fmt.Println("text", n)
		if n%3 == 2 {
			if err := s.DeleteCore(l.ID()); err != nil {
				panic(err)
			}
			fmt.Println("gone", n)
		}
	}
}

// TestKillPostmortem kills a process that stores crashes and cores, at any
// moment: what was acknowledged is there and whole, once, and nothing is left
// lying about.
func TestKillPostmortem(t *testing.T) {
	rounds := 40
	switch {
	case os.Getenv("INQUEST_LONG") != "":
		rounds = 2000
	case testing.Short():
		rounds = 8
	}
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := fastDir(t)
	next, acked := 0, map[string]map[int]bool{"core": {}, "text": {}, "gone": {}}
	for round := range rounds {
		if round%20 == 0 {
			os.RemoveAll(dir)
			next, acked = 0, map[string]map[int]bool{"core": {}, "text": {}, "gone": {}}
		}
		next = killPostmortem(t, dir, next, acked, rnd)
		checkPostmortem(t, fmt.Sprint("round ", round), dir, next, acked, rnd.IntN(5) == 0)
	}
}

// killPostmortem runs a child and kills it; next is the first crash it has not
// told.
func killPostmortem(t *testing.T, dir string, next int, acked map[string]map[int]bool, rnd *rand.Rand) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillPostmortemChild$")
	cmd.Env = append(os.Environ(), killCoresDir+"="+dir, fmt.Sprint(killCoresFrom, "=", next))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	skip, said := 1+rnd.IntN(12), ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, n := "", 0
		said += lines.Text() + "\n"
		if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
			continue
		}
		if what == "begin" {
			next = n + 1
		} else if acked[what] != nil {
			acked[what][n] = true
		}
		if skip--; skip == 0 {
			time.AfterFunc(time.Duration(rnd.Int64N(int64(20*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the child ended by itself: %v, %s", err, said)
	}
	return next
}

// checkPostmortem looks at what a killed process left; in a copy also without
// its catalog.
func checkPostmortem(t *testing.T, when, dir string, next int, acked map[string]map[int]bool, without bool) {
	t.Helper()
	if without {
		dir = copyFast(t, dir)
		defer os.RemoveAll(dir)
		if err := os.Remove(filepath.Join(dir, "catalog.db")); err != nil {
			t.Fatal(err)
		}
		when += ", without the catalog"
	}
	s := open(t, dir, func(o *store.Options) { o.Idle = true })
	files := 0
	for n := range next {
		c := crashOf(n, "shop", "k1")
		l, im, file := coreOf(t, &c, 3, 1)
		got, err := s.Core(l.ID())
		whole := err == nil && got.Complete
		if whole {
			files++
			if !bytes.Equal(readCore(t, s, l.ID()), file) {
				t.Fatalf("%s: core %d is read with other bytes", when, n)
			}
		}
		switch {
		case acked["core"][n] && n%3 != 2 && !acked["gone"][n] && (err != nil || !got.Complete && !without):
			t.Fatalf("%s: core %d is not there: %+v, %v", when, n, got, err)
		case acked["gone"][n] && err == nil:
			t.Fatalf("%s: core %d is there again", when, n)
		}
		if text, err := s.CrashText(c.ID); acked["text"][n] && !without && string(text) != fmt.Sprint("panic: ", n) {
			t.Fatalf("%s: text %d: %q, %v", when, n, text, err)
		}
		if n == next-1 && !acked["gone"][n] && !without { // what was begun goes on
			if got, err := sendCore(s, &c, l, im, inquest.TierFull); err == nil && got != nil && !bytes.Equal(readCore(t, s, l.ID()), file) {
				t.Fatalf("%s: core %d, gone on with, is read with other bytes", when, n)
			} else if err != nil {
				t.Fatalf("%s: go on with core %d: %v", when, n, err)
			}
			if err := s.DeleteCore(l.ID()); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			if whole {
				files--
			}
			acked["gone"][n] = true
		}
	}
	if g := groupsOf(t, s, store.CrashQuery{}); !without && (len(g) != 1 || g[0].Count != int64(g[0].Records) || g[0].Count < int64(next-1)) {
		t.Fatalf("%s: %d begun, groups %+v", when, next, g)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	cores, err := filepath.Glob(filepath.Join(dir, "cores", "*.core"))
	if err != nil || len(cores) != files && !without {
		t.Fatalf("%s: %d files of cores, want %d: %v, %v", when, len(cores), files, cores, err)
	}
	if r, err := store.Check(context.Background(), store.CheckOptions{Dir: dir}); err != nil || !r.Whole() {
		t.Fatalf("%s: check: %+v, %v", when, r, err)
	}
}
