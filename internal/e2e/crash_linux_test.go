package e2e_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/internal/testprog"
)

// doomed is a process that dies when it is told to.
type doomed struct {
	cmd  *exec.Cmd
	name string
	addr string
}

// startDoomed runs the test program under a name of its own, as a service.
func startDoomed(t *testing.T, service string, args ...string) *doomed {
	t.Helper()
	d := &doomed{name: fmt.Sprintf("doomed%d", os.Getpid())}
	exe := filepath.Join(t.TempDir(), d.name)
	if err := os.Link(testprog.Build{}.Path(t), exe); err != nil {
		t.Fatal(err)
	}
	d.cmd = exec.Command(exe, append([]string{"-http", "127.0.0.1:0"}, args...)...)
	d.cmd.Env = append(os.Environ(), "GOTRACEBACK=crash", "SERVICE_NAME="+service, "SHOP_PASSWORD=correct-horse-battery")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Kill() // it may have died as it should
		_ = d.cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 3 {
		t.Fatalf("the test program says %q: %v", line, err)
	}
	d.addr = fields[2]
	return d
}

// die ends the process and waits until it is gone.
func (d *doomed) die(t *testing.T, kind string) {
	t.Helper()
	resp, err := http.Get("http://" + d.addr + "/die?kind=" + kind)
	if err == nil {
		_ = resp.Body.Close() // it dies before it answers
	}
	_ = d.cmd.Wait() // a signal ended it
}

// coreOfSpool is the hash of the one core that is in an agent's spool, as an
// ELF file.
func coreOfSpool(t *testing.T, spool string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(spool, "crashes", "cores", "*.image"))
	if err != nil || len(found) != 1 {
		t.Fatalf("cores in the spool: %v, %v", found, err)
	}
	f, err := os.Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	im, err := coredump.OpenImage(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := im.CoreFile().WriteTo(h); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestCrash has a service die under an agent, with agent and collector killed
// while its core is on the way. The core arrives as it was taken, and belongs
// to the same service, instance and process as the profiles before.
func TestCrash(t *testing.T) {
	// Others wait for the core pattern, so what takes long comes first.
	binary(t, "collector")
	binary(t, "agent")
	testprog.Build{}.Path(t)
	proc.TakeCorePattern(t, "")
	before, err := proc.CorePattern()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "inq") // short enough for a core pattern
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	addr, data, spool := freeAddr(t), t.TempDir(), t.TempDir()
	wants := filepath.Join(dir, "collector.yml")
	if err := os.WriteFile(wants, []byte("capture: {default: full}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCollector(t, addr, data, "-config", wants)
	d := startDoomed(t, "shop", "-heap", "24")
	config := filepath.Join(dir, "agent.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
labels: {zone: a}
host:
  enabled: true
  interval: 1s
  allow_names: [%s]
capture:
  mode: auto
  services: [{name: shop, tier: full}]
`, d.name), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := func() *proc.Process {
		return startAgent(t, c.URL, spool, "-config", config, "-self-profile=false", "-capture-crashes", "-cores-dir", dir, "-core-upload-rate", "1MiB", "-core-min-free", "0")
	}
	agent := begin()
	var targets struct {
		Values []inquest.Target `json:"values"`
	}
	eventually(t, 30*time.Second, "the service is a target", func() error {
		if err := tryGet(t.Context(), c.URL, "/api/v1/targets", nil, &targets); err != nil {
			return err
		}
		if len(targets.Values) == 0 {
			return errors.New("no targets")
		}
		return nil
	})

	c.Kill()
	d.die(t, "nil")
	want := ""
	eventually(t, 20*time.Second, "the core is in the spool", func() error {
		if found, _ := filepath.Glob(filepath.Join(spool, "crashes", "cores", "*.image")); len(found) == 0 {
			return errors.New("it is not")
		}
		want = coreOfSpool(t, spool)
		return nil
	})
	c = startCollector(t, addr, data, "-config", wants)
	time.Sleep(2 * time.Second) // some blocks are there
	agent.Kill()
	eventually(t, 5*time.Second, "the host has its core pattern back", func() error {
		if now, err := proc.CorePattern(); err != nil || now != before {
			return fmt.Errorf("it is %q, %w", now, err)
		}
		return nil
	})
	agent = begin()
	time.Sleep(1500 * time.Millisecond)
	c.Kill()
	time.Sleep(300 * time.Millisecond)
	c = startCollector(t, addr, data, "-config", wants)
	var crashes struct {
		Values []inquest.Crash `json:"values"`
	}
	eventually(t, time.Minute, "the core is stored", func() error {
		if err := tryGet(t.Context(), c.URL, "/api/v1/crashes", url.Values{"service": {"shop"}, "from": {"-1h"}, "until": {"now"}}, &crashes); err != nil {
			return err
		}
		if len(crashes.Values) != 1 || crashes.Values[0].Core == nil || !crashes.Values[0].Core.Complete {
			return fmt.Errorf("crashes %+v", crashes.Values)
		}
		return nil
	})
	checkCrash(t, &crashes.Values[0], targets.Values[0])
	if got := coreOfCollector(t, c.URL, crashes.Values[0].Core.ID); got != want {
		t.Errorf("the core is another than what was taken: SHA-256 %s, want %s", got, want)
	}
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Error(err)
	}
	if now, err := proc.CorePattern(); err != nil || now != before {
		t.Errorf("the core pattern is %q after the agent's end, %v", now, err)
	}
	left, err := filepath.Glob(filepath.Join(spool, "crashes", "cores", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

func checkCrash(t *testing.T, c *inquest.Crash, target inquest.Target) {
	t.Helper()
	if c.Service != "shop" || c.Instance != target.Instance || c.Process != target.Process || c.Build == "" || c.Labels["zone"] != "a" || c.Labels["service"] != "" {
		t.Errorf("crash of service %q, instance %q, process %q, build %q, labels %v; target %+v", c.Service, c.Instance, c.Process, c.Build, c.Labels, target)
	}
	if c.Class != "signal:SIGSEGV" || len(c.Frames) == 0 || c.Tier != inquest.TierFull || c.Held <= 0 || c.Facts == nil || c.Key == "" {
		t.Errorf("crash of class %q, %d frames, tier %s, held %v, facts %v, key %q: %s", c.Class, len(c.Frames), c.Tier, c.Held, c.Facts, c.Key, c.Reason)
	}
	t.Logf("held %v, core of %d bytes of memory, %d stored in %d blocks", c.Held, c.Core.MemoryBytes, c.Core.StoredBytes, c.Core.Blocks)
}

// coreOfCollector downloads a core and returns its hash. No secret of the
// process is in it.
func coreOfCollector(t *testing.T, base, id string) string {
	t.Helper()
	resp, err := http.Get(base + "/api/v1/cores/" + id + "/core")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	core, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %.200s", resp.StatusCode, err, core)
	}
	if strings.Contains(string(core), "correct-horse-battery") {
		t.Error("the core has the value of a variable that is not allowed")
	}
	sum := sha256.Sum256(core)
	return hex.EncodeToString(sum[:])
}
