package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/symbolize"
)

const serverSource = `package main

import (
	"net/http"
	_ "net/http/pprof"
	"os"
)

func main() { panic(http.ListenAndServe(os.Args[1], nil)) }
`

// server is a Go program that runs, and its executable as it was built.
type server struct {
	*proc.Process
	addr string
	file string // what was started; may be gone
	exe  []byte
	id   string
}

// startServer builds and runs a program that serves its profiles.
func startServer(t *testing.T, name string) *server {
	t.Helper()
	dir := t.TempDir()
	for file, text := range map[string]string{"go.mod": "module " + name + "\n\ngo 1.22\n", "main.go": serverSource} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &server{addr: freeAddr(t), file: filepath.Join(dir, name)}
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", s.file, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", name, err, out)
	}
	var err error
	if s.exe, err = os.ReadFile(s.file); err != nil {
		t.Fatal(err)
	}
	build, err := symbolize.ReadBuild(bytes.NewReader(s.exe))
	if err != nil {
		t.Fatal(err)
	}
	s.id = build.ID
	if s.Process, err = proc.Start(output(t, name), nil, s.file, s.addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	eventually(t, 10*time.Second, name+" listens", func() error {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return s
}

// only configures an agent to find nothing but some programs.
func only(t *testing.T, more string, names ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	text := "self_profile: false\nhost:\n  enabled: true\n  interval: 1s\n  allow_names: [" + strings.Join(names, ", ") + "]\n" + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// stored checks that the collector has the executable of s, byte by byte.
func stored(t *testing.T, base string, s *server) error {
	var got []byte
	if err := tryGet(t.Context(), base, "/api/v1/builds/"+s.id, nil, &got); err != nil {
		return err
	}
	if !bytes.Equal(got, s.exe) {
		return fmt.Errorf("the collector has %d bytes, which are not the %d that were built", len(got), len(s.exe))
	}
	return nil
}

// TestUploadsOfRunningPrograms has an agent find programs of which one has
// no file any more, and one has another in its place: the collector gets what
// runs.
func TestUploadsOfRunningPrograms(t *testing.T) {
	t.Parallel()
	gone, rolled := startServer(t, "gonesrv"), startServer(t, "rolledsrv")
	if err := os.Remove(gone.file); err != nil {
		t.Fatal(err)
	}
	other := rolled.file + ".new"
	if err := os.WriteFile(other, gone.exe[:len(gone.exe)/2], 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, rolled.file); err != nil {
		t.Fatal(err)
	}
	c := startCollector(t, freeAddr(t), t.TempDir(), "-self-profile=false")
	agent := startAgent(t, c.URL, t.TempDir(), "-config", only(t, "", "gonesrv", "rolledsrv"))
	for _, s := range []*server{gone, rolled} {
		eventually(t, time.Minute, "the executable is stored", func() error { return stored(t, c.URL, s) })
	}
	var builds struct {
		Values []struct {
			Code     string
			Binaries []struct{ By, Source string }
		}
	}
	get(t, c.URL, "/api/v1/builds", url.Values{"id": {gone.id}}, &builds)
	if len(builds.Values) != 1 || builds.Values[0].Code != "dwarf" || len(builds.Values[0].Binaries) != 1 || builds.Values[0].Binaries[0].Source != "agent" {
		t.Errorf("the build is listed as %+v", builds.Values)
	}
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Errorf("agent after SIGTERM: %v", err)
	}
}

// cutter passes connections on to a collector, and cuts off the one over
// which so many bytes came, once.
type cutter struct {
	after, total atomic.Int64 // bytes from clients: before the cut, in all
	cuts         atomic.Int64
}

func (c *cutter) serve(t *testing.T, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			go func() {
				defer in.Close()
				_, _ = io.Copy(in, out)
			}()
			go func() {
				defer out.Close()
				defer in.Close()
				_, _ = io.Copy(out, &counted{in, c, 0})
			}()
		}
	}()
	return l.Addr().String()
}

type counted struct {
	net.Conn
	c *cutter
	n int64
}

func (r *counted) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.n += int64(n)
	r.c.total.Add(int64(n))
	if after := r.c.after.Load(); after > 0 && r.n > after && r.c.cuts.CompareAndSwap(0, 1) {
		return 0, errors.New("cut")
	}
	return n, err
}

// TestUploadGoesOn cuts the connection in the middle of an upload, and ends
// the program while it is uploaded: what was sent is not sent again.
func TestUploadGoesOn(t *testing.T) {
	t.Parallel()
	s := startServer(t, "cutsrv")
	c := startCollector(t, freeAddr(t), t.TempDir(), "-self-profile=false")
	way := &cutter{}
	way.after.Store(int64(len(s.exe)) / 2)
	base := "http://" + way.serve(t, strings.TrimPrefix(c.URL, "http://"))
	startAgent(t, base, t.TempDir(), "-config", only(t, "", "cutsrv"), "-upload-rate", "2MiB")
	eventually(t, 30*time.Second, "the connection is cut", func() error {
		if way.cuts.Load() == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	s.Kill()
	eventually(t, time.Minute, "the executable is stored", func() error { return stored(t, c.URL, s) })
	if most := int64(len(s.exe)) * 5 / 4; way.total.Load() > most {
		t.Errorf("%d bytes were sent for %d: the upload began anew", way.total.Load(), len(s.exe))
	}
}

// TestUploadAfterRestart stops the agent in the middle of an upload; the next
// one goes on.
func TestUploadAfterRestart(t *testing.T) {
	t.Parallel()
	s := startServer(t, "againsrv")
	c := startCollector(t, freeAddr(t), t.TempDir(), "-self-profile=false")
	way, spool, config := &cutter{}, t.TempDir(), only(t, "", "againsrv")
	base := "http://" + way.serve(t, strings.TrimPrefix(c.URL, "http://"))
	agent := startAgent(t, base, spool, "-config", config, "-upload-rate", "1MiB")
	eventually(t, 30*time.Second, "half is sent", func() error {
		if n := way.total.Load(); n < int64(len(s.exe))/2 {
			return fmt.Errorf("%d bytes of %d are", n, len(s.exe))
		}
		return nil
	})
	begin := time.Now()
	if err := agent.Stop(20 * time.Second); err != nil {
		t.Errorf("agent after SIGTERM: %v", err)
	}
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("the agent took %v to stop", d)
	}
	if err := stored(t, c.URL, s); err == nil {
		t.Fatal("the upload was not interrupted")
	}
	startAgent(t, base, spool, "-config", config)
	eventually(t, time.Minute, "the executable is stored", func() error { return stored(t, c.URL, s) })
	if most := int64(len(s.exe)) * 5 / 4; way.total.Load() > most {
		t.Errorf("%d bytes were sent for %d: the upload began anew", way.total.Load(), len(s.exe))
	}
}

// TestUploadRefused has the configuration refuse uploads: the collector is
// told and asks for none.
func TestUploadRefused(t *testing.T) {
	t.Parallel()
	s := startServer(t, "shysrv")
	c := startCollector(t, freeAddr(t), t.TempDir(), "-self-profile=false")
	startAgent(t, c.URL, t.TempDir(), "-config", only(t, "", "shysrv"), "-upload-binaries=false")
	startAgent(t, c.URL, t.TempDir(), "-config", only(t, "refuse: [upload]\n", "shysrv"))
	var agents struct {
		Values []inquest.AgentReport `json:"values"`
	}
	eventually(t, 30*time.Second, "both agents see the program", func() error {
		if err := tryGet(t.Context(), c.URL, "/api/v1/agents", nil, &agents); err != nil {
			return err
		}
		seen := 0
		for _, a := range agents.Values {
			if !slices.ContainsFunc(a.Targets, func(target inquest.Target) bool { return target.Build == s.id }) {
				continue // the collector's own
			}
			seen++
			if len(a.Refuses) != 1 || a.Refuses[0] != inquest.RefuseUpload {
				t.Errorf("an agent says that it refuses %q", a.Refuses)
			}
		}
		if seen != 2 {
			return fmt.Errorf("%d do", seen)
		}
		return nil
	})
	time.Sleep(2 * time.Second)
	if err := stored(t, c.URL, s); err == nil {
		t.Error("it was uploaded")
	}
}
