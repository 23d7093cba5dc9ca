package agent_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/coredump"
	"github.com/google/go-cmp/cmp"
)

// coreTaker is the collector's side of crashes and cores, and of what goes
// wrong there.
type coreTaker struct {
	t  *testing.T
	mu sync.Mutex

	want   inquest.Tier // answered to offers; default: all
	refuse map[int]int  // status answered to a block, once for each time it is in
	times  map[int]int  // how often, by block
	forget int          // offers are forgotten after so many blocks, once
	down   bool         // nothing is taken

	log     []string // what came, in order
	crashes map[string]inquest.Crash
	texts   map[string]string
	ledgers map[string]*coredump.Ledger
	blocks  map[string]map[int][]byte
	cores   map[string]inquest.Core // committed
}

func newCoreTaker(t *testing.T, c *fakeCollector) *coreTaker {
	k := &coreTaker{
		t: t, want: inquest.TierFull, crashes: map[string]inquest.Crash{}, texts: map[string]string{},
		ledgers: map[string]*coredump.Ledger{}, blocks: map[string]map[int][]byte{}, cores: map[string]inquest.Core{},
	}
	c.set(k.take)
	return k
}

// take answers what is about crashes and cores.
func (k *coreTaker) take(w http.ResponseWriter, r *http.Request) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/base/api/v1/")
	parts := strings.Split(path, "/")
	if parts[0] != "crashes" && parts[0] != "cores" {
		return false
	}
	if k.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	body, _ := io.ReadAll(r.Body)
	switch {
	case path == "crashes":
		var list []inquest.Crash
		if err := json.Unmarshal(body, &list); err != nil {
			k.t.Error(err)
		}
		for _, c := range list {
			if c.Message == "wrong" {
				w.WriteHeader(http.StatusBadRequest)
				return true
			}
		}
		for _, c := range list {
			k.crashes[c.ID] = c
		}
		k.log = append(k.log, "crashes")
	case parts[0] == "crashes":
		if _, ok := k.crashes[parts[1]]; !ok {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		k.texts[parts[1]] = string(body)
		k.log = append(k.log, "text")
	case path == "cores":
		k.offer(w, body)
	case parts[2] == "blocks":
		k.block(w, parts, body)
	case parts[2] == "commit":
		k.commit(w, parts[1])
	}
	return true
}

func (k *coreTaker) offer(w http.ResponseWriter, body []byte) {
	var o inquest.CoreOffer
	if err := json.Unmarshal(body, &o); err != nil {
		k.t.Error(err)
	}
	l, err := coredump.ParseLedger(o.Ledger)
	if err != nil {
		k.t.Error(err)
		return
	}
	id := l.ID()
	if o.Crash.Core == nil || o.Crash.Core.ID != id {
		k.t.Errorf("offer of core %s with %+v", id, o.Crash.Core)
	}
	k.log = append(k.log, "offer")
	a := inquest.CoreAnswer{ID: id, Want: k.want}
	if c, ok := k.cores[id]; ok {
		a.Core = &c
	} else if k.want.Cores() {
		if k.blocks[id] == nil {
			k.blocks[id] = map[int][]byte{}
		}
		k.ledgers[id] = l
		for n := range l.Blocks() {
			if k.blocks[id][n] == nil {
				a.Missing = append(a.Missing, [2]int{n, n + 1})
			}
		}
	}
	_ = json.NewEncoder(w).Encode(a)
}

func (k *coreTaker) block(w http.ResponseWriter, parts []string, body []byte) {
	id, n := parts[1], 0
	_, _ = fmt.Sscan(parts[3], &n)
	l := k.ledgers[id]
	switch {
	case l == nil:
		w.WriteHeader(http.StatusNotFound)
		return
	case k.times[n] > 0:
		k.times[n]--
		k.log = append(k.log, fmt.Sprintf("refused %d", n))
		w.WriteHeader(k.refuse[n])
		return
	case k.blocks[id][n] != nil:
		k.t.Errorf("block %d came again", n)
	case sha256.Sum256(body) != l.Blocks()[n].Sum:
		k.t.Errorf("block %d is wrong", n)
	}
	k.blocks[id][n] = body
	k.log = append(k.log, fmt.Sprint(n))
	if k.forget > 0 {
		if k.forget--; k.forget == 0 {
			delete(k.ledgers, id)
			delete(k.blocks, id)
			k.log = append(k.log, "forgotten")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (k *coreTaker) commit(w http.ResponseWriter, id string) {
	l := k.ledgers[id]
	if l == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	c := l.Header().Core
	k.cores[id] = c
	k.log = append(k.log, "commit")
	_ = json.NewEncoder(w).Encode(inquest.CoreAnswer{ID: id, Want: k.want, Core: &c})
}

func (k *coreTaker) came() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.log)
}

func (k *coreTaker) set(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
}

// spoolCrash is the crash of a number.
func spoolCrash(n int) inquest.Crash {
	return inquest.Crash{ID: inquest.CrashID(fmt.Sprint(n)), Kind: inquest.CrashDeath, At: time.Unix(int64(n), 0).UTC(), Service: "shop", Tier: inquest.TierNone}
}

// spooled makes a core spool with what the functions put into it.
func spooled(t *testing.T, dir string, fill ...func(*corespool.Pool) error) {
	t.Helper()
	p, err := corespool.Open(corespool.Options{Dir: filepath.Join(dir, "crashes"), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fill {
		if err := f(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
}

// fullCore puts a core of six blocks, the first two of which are the minicore.
func fullCore(n int) func(*corespool.Pool) error {
	return func(p *corespool.Pool) error {
		c := spoolCrash(n)
		w, err := p.Begin(c)
		if err != nil {
			return err
		}
		h := &coredump.Header{
			Core: inquest.Core{Crash: c.ID, Tier: inquest.TierFull, Arch: "amd64"}, Machine: 62,
			Segments: []coredump.Segment{{Extent: coredump.Extent{Addr: 1 << 20, Size: 64 << 20}, Fill: coredump.FillMissing}},
			Extents:  []coredump.Extent{{Addr: 8 << 20, Size: 3 << 19}, {Addr: 1 << 20, Size: 4 << 20}}, Mini: 1,
		}
		iw, err := coredump.NewWriter(w, h)
		if err != nil {
			return err
		}
		memory := make([]byte, 3<<19+4<<20)
		_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(memory) // never fails
		if _, err := iw.Write(memory); err != nil {
			return err
		}
		l, err := iw.Close()
		if err != nil {
			return err
		}
		k := l.Header().Core
		c.Core, c.Tier = &k, inquest.TierFull
		return w.Commit(c, l)
	}
}

func TestShipCores(t *testing.T) {
	blocks := []string{"0", "1", "2", "3", "4", "5"}
	told := append([]string{"crashes", "offer"}, blocks[:2]...)
	tests := []struct {
		name string
		set  func(*coreTaker)
		want []string
		end  inquest.CaptureState // but for quota
	}{
		{"all", func(*coreTaker) {}, append(append(slices.Clone(told), blocks[2:]...), "commit"), inquest.CaptureState{}},
		{"a minicore", func(k *coreTaker) { k.want = inquest.TierMini }, append(slices.Clone(told), "commit"), inquest.CaptureState{}},
		{"a text", func(k *coreTaker) { k.want = inquest.TierText }, told[:2], inquest.CaptureState{Rejected: 1}},
		{"nothing", func(k *coreTaker) { k.want = inquest.TierNone }, told[:2], inquest.CaptureState{Rejected: 1}},
		{"a block is damaged on its way", func(k *coreTaker) { k.refuse, k.times = map[int]int{1: 400}, map[int]int{1: 1} },
			append(append([]string{"crashes", "offer", "0", "refused 1"}, blocks[1:]...), "commit"), inquest.CaptureState{}},
		{"a block is damaged for good", func(k *coreTaker) { k.refuse, k.times = map[int]int{1: 400}, map[int]int{1: 9} },
			[]string{"crashes", "offer", "0", "refused 1", "refused 1", "crashes"}, inquest.CaptureState{Dropped: 1}},
		{"an offer is forgotten", func(k *coreTaker) { k.forget = 3 },
			append(append([]string{"crashes", "offer", "0", "1", "2", "forgotten", "offer"}, blocks...), "commit"), inquest.CaptureState{}},
		{"a pause is wanted", func(k *coreTaker) { k.refuse, k.times = map[int]int{1: 503}, map[int]int{1: 2} },
			append(append([]string{"crashes", "offer", "0", "refused 1", "offer", "refused 1", "offer"}, blocks[1:]...), "commit"), inquest.CaptureState{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			k := newCoreTaker(t, c)
			tt.set(k)
			o := c.options(t)
			spooled(t, o.SpoolDir, fullCore(1))
			a, _ := start(t, o)
			eventually(t, "the core leaves the spool", func() bool {
				s := a.Report().Capture
				return s.Waiting == 0 && len(k.came()) >= len(tt.want)
			})
			if d := cmp.Diff(tt.want, k.came()); d != "" {
				t.Errorf("requests (-want +got):\n%s", d)
			}
			if s := a.Report().Capture; s.Dropped != tt.end.Dropped {
				t.Errorf("state %+v", s)
			}
		})
	}
}

// TestShipCoreResumed stops the agent and the collector between blocks.
func TestShipCoreResumed(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	k := newCoreTaker(t, c)
	o := c.options(t)
	o.CoreRateBytes = 2 << 20
	spooled(t, o.SpoolDir, fullCore(1))
	for n := 1; n <= 4; n++ {
		_, stop := start(t, o)
		eventually(t, "some blocks are there", func() bool { return len(k.came()) >= 3*n })
		k.set(func() { k.down = n == 2 })
		stop()
		k.set(func() { k.down = false })
	}
	start(t, o)
	eventually(t, "the core is there", func() bool { return slices.Contains(k.came(), "commit") })
}

func TestShipCrashes(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	k := newCoreTaker(t, c)
	o := c.options(t)
	wrong, text := spoolCrash(5000), spoolCrash(5001)
	wrong.Message = "wrong"
	text.Text = &inquest.CrashText{Bytes: 4, Kept: 4}
	fill := []func(*corespool.Pool) error{
		fullCore(1),
		func(p *corespool.Pool) error { return p.Crash(wrong) },
		func(p *corespool.Pool) error { return p.Text(text, []byte("boom")) },
	}
	for n := range 1500 {
		fill = append(fill, func(p *corespool.Pool) error { return p.Crash(spoolCrash(n)) })
	}
	spooled(t, o.SpoolDir, fill...)
	start(t, o)
	eventually(t, "all is shipped", func() bool { return slices.Contains(k.came(), "commit") })
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.crashes) != 1501 || k.texts[text.ID] != "boom" {
		t.Errorf("%d crashes, texts %v", len(k.crashes), k.texts)
	}
	first := bytes.IndexByte([]byte(strings.Join(k.log, "")), 'o')
	if strings.Contains(strings.Join(k.log, "")[first:], "crashes") || strings.Contains(strings.Join(k.log, "")[first:], "text") {
		t.Errorf("a core went before crashes or texts: %v", k.log)
	}
}

// TestShipRate bounds the bandwidth of cores.
func TestShipRate(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	k := newCoreTaker(t, c)
	o := c.options(t)
	o.CoreRateBytes = 2 << 20
	spooled(t, o.SpoolDir, fullCore(1))
	begin := time.Now()
	start(t, o)
	eventually(t, "the core is there", func() bool { return slices.Contains(k.came(), "commit") })
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("5.5 MiB at 2 MiB/s took %v", took)
	}
}

// TestCrashOvertakesCore has a service die, as its log says, while a core of
// another is on its way.
func TestCrashOvertakesCore(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	k := newCoreTaker(t, c)
	o := c.options(t)
	o.CoreRateBytes = 1 << 20
	logs := t.TempDir()
	o.Config.CrashTexts.Files = []string{filepath.Join(logs, "*.log")}
	o.Config.Labels = map[string]string{"zone": "a"}
	spooled(t, o.SpoolDir, fullCore(1))
	a, _ := start(t, o)
	eventually(t, "a block is there", func() bool { return slices.Contains(k.came(), "0") })
	text := "panic: no\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:3 +0x1d\nexit status 2\n"
	if err := os.WriteFile(filepath.Join(logs, "till.log"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the core is there", func() bool { return slices.Contains(k.came(), "commit") })
	came := k.came()
	if n := slices.Index(came, "text"); n < 0 || n > slices.Index(came, "commit") {
		t.Errorf("requests in the order %v", came)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var got []inquest.Crash
	for id := range k.texts {
		got = append(got, k.crashes[id])
	}
	if len(got) != 1 || got[0].Class == "" || got[0].Service == "" || got[0].Instance != "testhost" || got[0].Labels["zone"] != "a" || got[0].Agent != a.ID() {
		t.Errorf("crash %+v", got)
	}
}

// TestPolicyIsKept keeps what came with the answer to a report for a start
// without a collector.
func TestPolicyIsKept(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	c.policy = inquest.CapturePolicy{Default: inquest.TierText, Rules: []inquest.CaptureRule{{Service: "a*", Tier: inquest.TierNone}}}
	o := c.options(t)
	_, stop := start(t, o)
	eventually(t, "the policy is kept", func() bool {
		_, err := os.Stat(filepath.Join(o.SpoolDir, "crashes", "policy"))
		return err == nil
	})
	stop()
	p, err := corespool.Open(corespool.Options{Dir: filepath.Join(o.SpoolDir, "crashes")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close() }()
	if d := cmp.Diff(c.policy, p.Policy()); d != "" {
		t.Error(d)
	}
}
