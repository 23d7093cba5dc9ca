package host_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/internal/proc"
)

// helperEnv makes the test binary scan and print what it found: as somebody
// who may not look at this process.
const helperEnv = "INQUEST_HOST_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) == "" {
		os.Exit(m.Run())
	}
	snap, err := host.NewScanner(host.Options{Want: func(exe string) bool { return exe == os.Getenv(helperEnv) }}).Scan(context.Background(), nil)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(snap.Unreadable)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// own wants nothing but this test's program.
func own(t *testing.T) host.Options {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return host.Options{Want: func(name string) bool { return name == filepath.Base(exe) }}
}

func find(snap *host.Snapshot, pid int) *host.Process {
	for i := range snap.Processes {
		if snap.Processes[i].PID == pid {
			return &snap.Processes[i]
		}
	}
	return nil
}

func TestScanFindsThisProcessAndItsPorts(t *testing.T) {
	s := host.NewScanner(own(t))
	before, err := s.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(l.Addr().String())
	after, err := s.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if p := find(before, os.Getpid()); p == nil || before.ByPort(addr.Addr(), addr.Port()) != nil {
		t.Errorf("before listening: %+v", p)
	}
	p := after.ByPort(addr.Addr(), addr.Port())
	if p == nil || p.PID != os.Getpid() || p.ID != host.SelfID() || !host.Alive(p.ID) || p.Build == nil || p.Build.GoVersion == "" {
		t.Fatalf("after: %+v", p)
	}
	if after.ByPort(netip.MustParseAddr("127.0.0.9"), addr.Port()) != nil {
		t.Error("found by an address it does not listen on")
	}
	_ = l.Close()
	closed, err := s.Scan(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if closed.ByPort(addr.Addr(), addr.Port()) != nil {
		t.Error("found by a port that is closed")
	}
}

func TestScanFindsByPortWhatIsNotWanted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addr := netip.MustParseAddrPort(l.Addr().String())
	s := host.NewScanner(host.Options{Want: func(string) bool { return false }})
	for range 2 {
		snap, err := s.Scan(t.Context(), map[uint16]bool{addr.Port(): true})
		if err != nil {
			t.Fatal(err)
		}
		if p := snap.ByPort(addr.Addr(), addr.Port()); p == nil || p.PID != os.Getpid() || len(snap.Processes) != 1 {
			t.Errorf("found %+v of %d", p, len(snap.Processes))
		}
	}
}

func TestAlive(t *testing.T) {
	id := host.SelfID()
	parts := strings.Split(id, ":")
	for other, want := range map[string]bool{
		id: true, parts[0] + ":" + parts[1] + ":1": false, parts[0] + ":99999999:1": false, "session": true,
	} {
		if got := host.Alive(other); got != want {
			t.Errorf("Alive(%q) = %v", other, got)
		}
	}
}

func TestUnreadableProcessesAreShown(t *testing.T) {
	if os.Getuid() != 0 {
		proc.Missing(t, "only root can become somebody who may not look at this process")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "inquest-host-test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	helper := filepath.Join(dir, "helper")
	copyFile(t, exe, helper)
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(helper)
	cmd.Env = []string{helperEnv + "=" + strings.TrimSpace(string(comm))}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("helper: %v", err)
	}
	var found []host.Unreadable
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	for _, u := range found {
		if u.PID == os.Getpid() && strings.Contains(u.Reason, "CAP_SYS_PTRACE") {
			return
		}
	}
	t.Errorf("this process, %d, is not among the unreadable: %+v", os.Getpid(), found)
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
