package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
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
	killDir  = "INQUEST_TEST_KILL_DIR"
	killFrom = "INQUEST_TEST_KILL_FROM"
)

// killPhases are what the child of TestKill does in turn, while it stores
// profiles.
var killPhases = []string{"flush", "settle", "backup"}

// killed makes profile n, which depends on its number alone, so that several
// processes know it: an hour passes with every three of them, so days
// end and rollups of them are merged.
func (v *survivor) killed(n int) inquest.Key {
	at := t0.Add(time.Duration(n) * 20 * time.Minute)
	if n%7 == 0 {
		at = at.Add(-40 * time.Hour) // late
	}
	return v.make(n, fmt.Sprint("s", n%3), at)
}

// killedBinary is the binary that is uploaded after profile n.
func killedBinary(n int) []byte { return fakeBinary(fmt.Sprint("binary", n), "code", true, 2000) }

// keepBinaries has none go that no data needs.
func keepBinaries(o *store.Options) { o.Retention.BinariesUnused = store.Forever }

// killClock is the time when profile n is sent.
func killClock(n int) time.Time { return t0.Add(time.Duration(n) * 20 * time.Minute) }

// TestKillChild is what TestKill kills: it stores profiles, ends epochs, rolls
// up, merges and backs up until then, and says what it does.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("runs as a child of TestKill")
	}
	from := 0
	if _, err := fmt.Sscan(os.Getenv(killFrom), &from); err != nil {
		t.Fatal(err)
	}
	v := survivorIn(t, dir, keepBinaries)
	v.clock.Store(killClock(from).UnixNano())
	if err := v.tryOpen(); err != nil {
		t.Fatal(err)
	}
	more := make(chan struct{}) // so that what is stored keeps pace with what is done with it
	go func() {
		for n := from; ; n++ {
			if n%6 == 5 {
				<-more
			}
			v.clock.Store(killClock(n).UnixNano())
			if err := v.send(v.killed(n)); err != nil {
				panic(err)
			}
			fmt.Println("stored", n)
			if n%5 == 2 {
				if _, err := upload(v.s, killedBinary(n), store.Provenance{Source: store.SourceCI}); err != nil {
					panic(err)
				}
				fmt.Println("uploaded", n)
			}
		}
	}()
	waitReady(t, v.s)
	ctx := context.Background()
	for round := 0; ; round++ {
		for _, phase := range killPhases {
			more <- struct{}{}
			fmt.Println(phase, round)
			var err error
			switch phase {
			case "flush":
				err = v.s.Flush(ctx)
			case "settle":
				err = v.s.Settle(ctx)
			case "backup":
				if round%4 == 0 {
					_, err = v.s.BackupDir(ctx, dir+".backup", nil)
				}
			}
			if err != nil {
				panic(err)
			}
		}
	}
}

// TestKill kills a process that stores, ends epochs, rolls up, merges and backs
// up, at any moment, again and again: what was acknowledged is there, once,
// rollups add up to the same, and nothing is left lying about. INQUEST_LONG=1
// does it more often.
func TestKill(t *testing.T) {
	rounds := 200
	switch {
	case os.Getenv("INQUEST_LONG") != "":
		rounds = 5000
	case testing.Short():
		rounds = 20
	}
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	root := fastDir(t)
	k := &killer{t: t, rnd: rnd, took: map[string]time.Duration{}}
	began := time.Now()
	for round := range rounds {
		if round%20 == 0 { // stores of all sizes, from nothing
			if k.v != nil {
				os.RemoveAll(k.v.dir)
				os.RemoveAll(k.v.dir + ".backup")
			}
			k.v = survivorIn(t, filepath.Join(root, fmt.Sprint("store", round)))
			k.next, k.uploaded = 0, nil
		}
		k.round(fmt.Sprint("round ", round))
		// Mostly the next process finds what this one left, else what the test has
		// tidied up.
		k.look(fmt.Sprint("round ", round), rnd.IntN(4) > 0)
	}
	t.Logf("%d rounds in %v; phases take about %v", rounds, time.Since(began), k.took)
}

// killer starts processes and kills them.
type killer struct {
	t    *testing.T
	rnd  *rand.Rand
	v    *survivor
	next int                      // profiles before it were acknowledged
	took map[string]time.Duration // about how long phases take

	uploaded map[int]bool // numbers of binaries that were acknowledged
}

// round starts a process and kills it in some phase.
func (k *killer) round(when string) {
	k.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillChild$")
	cmd.Env = append(os.Environ(), killDir+"="+k.v.dir, fmt.Sprint(killFrom, "=", k.next))
	out, err := cmd.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	victim, skip := pick(k.rnd, append([]string{"stored", "uploaded"}, killPhases...)...), k.rnd.IntN(4)
	last, began, said := "", time.Now(), ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, n := "", 0
		said += lines.Text() + "\n"
		if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
			continue
		}
		if what == "stored" {
			k.next = max(k.next, n+1)
		} else if what == "uploaded" {
			if k.uploaded == nil {
				k.uploaded = map[int]bool{}
			}
			k.uploaded[n] = true
		} else {
			if last != "" {
				k.took[last] = (3*k.took[last] + time.Since(began)) / 4
			}
			last, began = what, time.Now()
		}
		if what == victim {
			if skip--; skip == -1 {
				delay := max(k.took[what], 2*time.Millisecond) * 5 / 4
				time.AfterFunc(time.Duration(k.rnd.Int64N(int64(delay))), func() { _ = cmd.Process.Kill() })
			}
		}
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		k.t.Fatalf("%s: the child ended by itself: %v, %s", when, err, said)
	}
}

// look looks at what a killed process left: in a copy, or there.
func (k *killer) look(when string, copied bool) {
	k.t.Helper()
	v := survivorIn(k.t, k.v.dir, keepBinaries)
	if copied {
		v.dir = copyFast(k.t, k.v.dir)
		defer os.RemoveAll(v.dir)
	}
	v.clock.Store(killClock(k.next).UnixNano())
	for n := range k.next {
		v.killed(n)
		x := v.records[key(n)]
		v.model[key(n)] = describe(&store.Record{Meta: x.meta, Profile: k.decode(v, x.body)})
	}
	v.killed(k.next) // it may be there too
	without := k.rnd.IntN(4) == 0 && copied
	if without {
		if err := os.Remove(filepath.Join(v.dir, "catalog.db")); err != nil {
			k.t.Fatal(err)
		}
		when += ", without the catalog"
	}
	v.open()
	v.check(when)
	for n := range k.uploaded {
		if raw := killedBinary(n); !bytes.Equal(readBinary(k.t, v.s, shaOf(raw)), raw) {
			k.t.Fatalf("%s: binary %d is read with other bytes", when, n)
		}
	}
	if q := v.s.Stats().Quarantined; len(q) > 0 {
		k.t.Fatalf("%s: %v", when, q)
	}
	if !copied {
		if err := v.s.Settle(context.Background()); err != nil {
			k.t.Fatalf("%s: %v", when, err)
		}
		v.check(when + ", settled")
		k.next = max(k.next, len(v.model))
	}
	v.checkFiles(when)
	if !copied {
		k.restore(when, v)
	}
}

func (k *killer) decode(v *survivor, body []byte) *profile.Profile {
	k.t.Helper()
	p, err := v.d.Decode(body)
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

// restore makes a store of the newest backup, if there is a whole one.
func (k *killer) restore(when string, v *survivor) {
	k.t.Helper()
	from := k.v.dir + ".backup"
	if _, err := os.Stat(filepath.Join(from, "manifest.json")); err != nil {
		return
	}
	to := fastDir(k.t)
	defer os.RemoveAll(to)
	m, err := store.RestoreDir(context.Background(), from, store.RestoreOptions{Dir: to})
	if err != nil {
		k.t.Fatalf("%s: %v", when, err)
	}
	back := survivorIn(k.t, to)
	back.records = maps.Clone(v.records)
	back.open()
	back.check(when + ", restored")
	if n := int64(len(back.model)); n != m.Profiles {
		k.t.Fatalf("%s: %d profiles restored, want %d", when, n, m.Profiles)
	}
	if err := back.s.Close(); err != nil {
		k.t.Fatalf("%s: %v", when, err)
	}
}
