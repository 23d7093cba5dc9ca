// Package proc builds and runs the project's own programs as processes, for
// end-to-end tests and benchmarks: on loopback, with a data directory of the
// caller's, and ended by the process that started them.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles a package of this module to the file out.
func Build(ctx context.Context, out, pkg string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", out}, flags...), pkg)...)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, b)
	}
	return nil
}

// FreeAddr returns a loopback address (host:port) that nothing listens on.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Process is a running program. Its methods may be called by several
// goroutines.
type Process struct {
	PID int

	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of Wait; valid once ended is closed
	once  sync.Once
}

// Start runs a program with its output going to log. The kernel ends it when
// this process dies.
func Start(log io.Writer, env []string, bin string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(bin, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = endWithParent()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Stop sends SIGTERM and waits up to the bound for a clean end (exit code 0).
func (p *Process) Stop(bound time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return p.err
	case <-time.After(bound):
		p.Kill()
		return fmt.Errorf("process %d did not end within %v of SIGTERM", p.PID, bound)
	}
}

// Kill ends the process with SIGKILL, if it still runs, and waits for its end.
func (p *Process) Kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() }) // an error means it has ended already
	<-p.ended
}

// CPU is the user and system time of the process so far, or of all its life
// once it has ended.
func (p *Process) CPU() (time.Duration, error) {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
	default:
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := int64(0)
	for _, i := range []int{11, 12} { // utime and stime, fields 14 and 15 of proc(5)
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every Linux port
}

// PeakRSS is the largest resident size of the process so far, in bytes.
func (p *Process) PeakRSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("no VmHWM in /proc status")
}

// Collector is a running collector and the address it serves.
type Collector struct {
	*Process
	URL string // "http://127.0.0.1:port"
}

// LaunchCollector runs a collector binary on addr (see FreeAddr) over a data
// directory, with no self profiling unless args say so.
func LaunchCollector(log io.Writer, bin, addr, data string, args ...string) (*Collector, error) {
	args = append([]string{"-listen", addr, "-data", data, "-self-profile=false", "-log-level", "warn"}, args...)
	p, err := Start(log, nil, bin, args...)
	if err != nil {
		return nil, err
	}
	return &Collector{Process: p, URL: "http://" + addr}, nil
}

// StartCollector is LaunchCollector followed by WaitReady.
func StartCollector(ctx context.Context, log io.Writer, bin, addr, data string, args ...string) (*Collector, error) {
	c, err := LaunchCollector(log, bin, addr, data, args...)
	if err != nil {
		return nil, err
	}
	if err := c.WaitReady(ctx, 30*time.Second); err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// WaitReady waits until /readyz answers 200.
func (c *Collector) WaitReady(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.Ended():
			return fmt.Errorf("the collector ended before it was ready: %w", c.err)
		case <-ctx.Done():
			return fmt.Errorf("the collector is not ready: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
