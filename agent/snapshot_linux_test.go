package agent_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/google/go-cmp/cmp"
)

// runGrandchild runs the test program by a shell: an agent does not copy what
// it waits for.
func runGrandchild(t *testing.T, env ...string) (exe string, kill func()) {
	t.Helper()
	built, err := buildChild()
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%s-%d", built, children.Add(1))
	if err := os.Link(built, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `"$0" & echo $!; wait`, name)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, bad := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || bad != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	kill = sync.OnceFunc(func() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		_ = cmd.Wait() // killed
	})
	t.Cleanup(kill)
	return filepath.Base(name), kill
}

// TestSnapshotCommand copies a target on command. The core has the labels of
// its profiles, and the executable is there after the process is not, over a
// restart of the agent.
func TestSnapshotCommand(t *testing.T) {
	if os.Geteuid() != 0 {
		proc.Missing(t, "copying processes is tested as root")
	}
	t.Parallel()
	c := newCollector(t)
	k := newCoreTaker(t, c)
	var mu sync.Mutex
	var exe []byte // as uploaded
	c.set(func(w http.ResponseWriter, r *http.Request) bool {
		id, ok := strings.CutPrefix(r.URL.Path, "/base/api/v1/builds/")
		if !ok {
			return k.take(w, r)
		}
		var size int64
		if _, err := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes */%d", &size); err == nil {
			w.WriteHeader(http.StatusPermanentRedirect)
			fmt.Fprintf(w, `{"received":0,"bytes":%d}`, size)
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		exe, _ = io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"id":%q,"sha256":%q,"bytes":%d}`, id, r.Header.Get(inquest.HeaderSHA256), len(exe))
		return true
	})
	exeName, kill := runGrandchild(t, "SERVICE_NAME=checkout")
	o := c.options(t)
	o.CoreMinFree = -1
	o.Config = hostConfig(exeName)
	o.Config.Labels = map[string]string{"zone": "a"}
	a, stop := start(t, o)
	eventually(t, "the target is there", func() bool { return byService(a.Targets(), "checkout") != nil })
	tg := byService(a.Targets(), "checkout")
	c.commands <- inquest.Command{ID: "1", Verb: inquest.VerbSnapshot, Target: tg.ID}
	res := <-c.results
	if res.Error != "" || res.Service != "checkout" || res.Crash == "" || res.Stopped <= 0 {
		t.Fatalf("result %+v", res)
	}
	eventually(t, "the core is there", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.cores) == 1
	})
	k.mu.Lock()
	got := k.crashes[res.Crash]
	k.mu.Unlock()
	type labels struct {
		Kind, Service, Instance, Process, Build, Agent, Host string
		Labels                                               map[string]string
	}
	want := labels{inquest.CrashSnapshot, "checkout", tg.Instance, tg.Process, tg.Build, a.ID(), "testhost", map[string]string{"zone": "a"}}
	if d := cmp.Diff(want, labels{got.Kind, got.Service, got.Instance, got.Process, got.Build, got.Agent, got.Host, got.Labels}); d != "" {
		t.Errorf("crash (-want +got):\n%s", d)
	}

	built, err := buildChild()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	eventually(t, "the target is gone", func() bool { return byService(a.Targets(), "checkout") == nil })
	stop() // the copy stays
	c.mu.Lock()
	c.missing = []string{tg.Build}
	c.mu.Unlock()
	o.Config.Refuse = []string{inquest.VerbSnapshot}
	a, _ = start(t, o)
	eventually(t, "the executable is uploaded", func() bool { return a.Report().Upload.Uploaded == 1 })
	mu.Lock()
	defer mu.Unlock()
	if string(exe) != string(whole) {
		t.Errorf("%d bytes of the executable were uploaded, it has %d", len(exe), len(whole))
	}
	c.commands <- inquest.Command{ID: "2", Verb: inquest.VerbSnapshot, Target: tg.ID}
	if res := <-c.results; !strings.Contains(res.Error, "refuses") {
		t.Errorf("result %+v", res)
	}
}
