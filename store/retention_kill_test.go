package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// killEnv names the data directory for the process that TestKillKeeper kills.
const killEnv = "INQUEST_TEST_KEEPER_DIR"

// TestKeeperVictim is the process of TestKillKeeper: it deletes, lets profiles
// become too old, and says what it has done until it is killed.
func TestKeeperVictim(t *testing.T) {
	dir := os.Getenv(killEnv)
	if dir == "" {
		t.Skip("only in the process that is killed")
	}
	ctx := context.Background()
	c := newClock()
	s := open(t, dir, keeperOptions(c))
	for i := 0; ; i++ {
		d := store.Deletion{Service: "svc", Window: inquest.Window{From: t0.Add(time.Duration(i) * time.Minute), Until: t0.Add(time.Duration(i+1) * time.Minute)}}
		if _, err := s.Delete(ctx, d); err != nil {
			t.Fatal(err)
		}
		fmt.Println("deleted", i)
		if err := s.Settle(ctx); err != nil {
			t.Fatal(err)
		}
		c.advance(2 * time.Minute)
	}
}

func keeperOptions(c *clock) func(*store.Options) {
	return func(o *store.Options) {
		o.Now, o.RollupDelay, o.Epoch = c.now, time.Nanosecond, 1000*time.Hour
		o.Retention = store.Retention{Services: []store.ServiceRetention{{Match: "old", Raw: time.Minute, FiveMinutes: time.Minute, Hour: time.Minute, Day: time.Minute}}}
	}
}

// TestKillKeeper kills a process while it takes out what is deleted and too
// old: what it said was deleted is gone, the rest is there once, and another
// process finishes the work.
func TestKillKeeper(t *testing.T) {
	rounds := 4
	if os.Getenv("INQUEST_LONG") != "" {
		rounds = 60
	}
	const minutes = 40
	base, c := t.TempDir(), newClock()
	s := open(t, base, keeperOptions(c), func(o *store.Options) { o.Retention = store.Retention{} })
	m := &marks{&shelf{tb: t, s: s, c: c, d: profile.NewDecoder(profile.Limits{})}, map[inquest.Key]mark{}}
	for i := range minutes {
		m.put("svc", fmt.Sprintf("word%03dx", i), t0.Add(time.Duration(i)*time.Minute+time.Second))
		m.put("old", fmt.Sprintf("old%03dx", i), t0.Add(time.Duration(i-minutes)*time.Minute))
		if i%10 == 9 {
			m.flush()
		}
	}
	settle(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		dir := copyDir(t, base)
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKeeperVictim$")
		cmd.Env = append(os.Environ(), killEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := -1
		time.AfterFunc(time.Duration(100+round*137%900)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, ok := strings.CutPrefix(lines.Text(), "deleted "); ok {
				if _, err := fmt.Sscan(n, &done); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		again := open(t, dir, keeperOptions(c))
		waitReady(t, again)
		for _, settled := range []bool{false, true} {
			if settled {
				settle(t, again)
			}
			got := seen(t, again, store.Selection{})
			for i := range minutes {
				there := got[key(2*i)]
				if i <= done && there || i > done+1 && !there {
					t.Fatalf("round %d, %d deleted: profile %d is there: %v", round, done, i, there)
				}
			}
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		for i := range min(done+1, minutes) {
			if in := found(t, dir, fmt.Sprintf("word%03dx", i)); len(in) > 0 {
				t.Fatalf("round %d: deleted profile %d is in %v", round, i, in)
			}
		}
	}
}
