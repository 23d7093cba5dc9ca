package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

const (
	victimPackage = "github.com/goinquest/inquest/internal/testprog/testdata/crasher"
	patternFile   = "/proc/sys/kernel/core_pattern"
	limitFile     = "/proc/sys/kernel/core_pipe_limit"
	helloRuns     = 20
)

// captureResult is what captures cost.
type captureResult struct {
	OOMVirtual   int64         `json:"oom_virtual_bytes"`
	OOMMemory    int64         `json:"oom_memory_bytes"`
	OOMStored    int64         `json:"oom_stored_bytes"`
	OOMHeld      time.Duration `json:"oom_held_ns"`         // of the full core, as the agent counts
	OOMOutside   time.Duration `json:"oom_held_outside_ns"` // and as seen from outside
	ZstdHeld     time.Duration `json:"zstd_held_ns"`        // by a pipe handler
	ZstdWhole    bool          `json:"zstd_whole"`          // else it was stopped, and the time is scaled by bytes
	ZstdBytes    int64         `json:"zstd_bytes"`          // it read
	HelloHeld    time.Duration `json:"hello_held_ns"`       // median
	HelloWorst   time.Duration `json:"hello_held_max_ns"`
	HeapMini     int64         `json:"heap_mini_stored_bytes"`
	HeapFull     int64         `json:"heap_full_stored_bytes"`
	HeapMiniHeld time.Duration `json:"heap_mini_held_ns"`
	HeapFullHeld time.Duration `json:"heap_full_held_ns"`
	HeapStop     time.Duration `json:"heap_snapshot_stopped_ns"`
	BigMemory    int64         `json:"big_memory_bytes"`
	BigPeak      int64         `json:"big_agent_peak_rss_bytes"`
	BigHeld      time.Duration `json:"big_held_ns"`
	Rejections   int           `json:"rejections"`
	RejectCPU    time.Duration `json:"rejection_cpu_ns"` // each
	RejectHeld   time.Duration `json:"rejection_held_ns"`
}

// captureBench is a host whose deaths are ours for a while.
type captureBench struct {
	options
	victim  string
	agent   *exec.Cmd
	orders  io.WriteCloser
	events  chan []byte // lines
	answers chan []byte
	result  captureResult
}

// measureCapture needs the rights of root, and the core pattern of the host.
func measureCapture(ctx context.Context, o options, stdout io.Writer) (err error) {
	b := &captureBench{options: o, victim: filepath.Join(o.dir, "crasher")}
	if err := proc.Build(ctx, b.victim, victimPackage); err != nil {
		return err
	}
	release, err := proc.HoldCorePattern()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := b.run(ctx); err != nil {
		return err
	}
	if o.asJSON {
		return json.NewEncoder(stdout).Encode(&b.result)
	}
	return b.write(stdout)
}

func (b *captureBench) run(ctx context.Context) (err error) {
	if err := b.start(); err != nil {
		return err
	}
	steps := []func(context.Context) error{b.hello, b.oom, b.heap, b.big, b.reject}
	for _, step := range steps {
		if err = step(ctx); err != nil {
			break
		}
	}
	if err = errors.Join(err, b.stop()); err != nil {
		return err
	}
	return b.zstd(ctx)
}

func (b *captureBench) start() error {
	dir, err := os.MkdirTemp("", "cb") // short: it goes into the pattern
	if err != nil {
		return err
	}
	b.agent = exec.Command("/proc/self/exe", captureCommand, dir)
	b.agent.Stderr = b.log
	if b.orders, err = b.agent.StdinPipe(); err != nil {
		return err
	}
	out, err := b.agent.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.agent.Start(); err != nil {
		return err
	}
	b.events, b.answers = make(chan []byte, 16), make(chan []byte, 16)
	go b.listen(out)
	_, err = b.order(captureOrder{Tier: inquest.TierNone}) // it is ready
	return err
}

func (b *captureBench) stop() error {
	dir := b.agent.Args[2]
	return errors.Join(b.orders.Close(), b.agent.Wait(), os.RemoveAll(dir))
}

// answerTime is how long the agent may take for anything.
const answerTime = 5 * time.Minute

// listen takes what the agent says, so that it never waits for us.
func (b *captureBench) listen(out io.Reader) {
	defer close(b.events)
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return
		}
		if bytes.HasPrefix(line, []byte(`{"State"`)) {
			b.answers <- line
			continue
		}
		select {
		case b.events <- line:
		default: // nobody wants so many
		}
	}
}

// next waits for something that the agent says.
func next(from chan []byte, into any) error {
	select {
	case line, ok := <-from:
		if !ok {
			return errors.New("the agent has ended")
		}
		return json.Unmarshal(line, into)
	case <-time.After(answerTime):
		return fmt.Errorf("the agent said nothing for %v", answerTime)
	}
}

// order tells the agent something, and returns what it has done so far.
func (b *captureBench) order(o captureOrder) (inquest.CaptureState, error) {
	if err := json.NewEncoder(b.orders).Encode(o); err != nil {
		return inquest.CaptureState{}, err
	}
	var heard captureHeard
	err := next(b.answers, &heard)
	return heard.State, err
}

// event is the next one.
func (b *captureBench) event() (e inquest.Crash, err error) {
	err = next(b.events, &e)
	return e, err
}

// runVictim lets the program run until it is ready.
func (b *captureBench) runVictim(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, b.victim, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOTRACEBACK=crash")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return cmd, err
}

// die has the program die, and returns what was told of it.
func (b *captureBench) die(ctx context.Context, tier inquest.Tier, args ...string) (inquest.Crash, time.Duration, error) {
	if _, err := b.order(captureOrder{Tier: tier}); err != nil {
		return inquest.Crash{}, 0, err
	}
	cmd, err := b.runVictim(ctx, args...)
	if err != nil {
		return inquest.Crash{}, 0, err
	}
	held := dumping(cmd)
	e, err := b.event()
	if err == nil && tier.Cores() && e.Tier != tier {
		err = fmt.Errorf("tier %s of %v: %s", e.Tier, args, e.Reason)
	}
	return e, held, err
}

// dumping waits for the end of a program and returns for how long it dumped.
func dumping(cmd *exec.Cmd) time.Duration {
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it dies
		close(ended)
	}()
	var since time.Time
	name := fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)
	for {
		select {
		case <-ended:
			if since.IsZero() {
				return 0
			}
			return time.Since(since)
		default:
		}
		if since.IsZero() {
			if text, _ := os.ReadFile(name); strings.Contains(string(text), "CoreDumping:\t1") {
				since = time.Now()
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// hello are servers that die with a build that is known.
func (b *captureBench) hello(ctx context.Context) error {
	var held []time.Duration
	for i := range helloRuns + 1 {
		e, _, err := b.die(ctx, inquest.TierMini, "-kind", "nil", "-http", "127.0.0.1:0")
		if err != nil {
			return err
		}
		if i > 0 { // the build is seen
			held = append(held, e.Held)
		}
	}
	slices.Sort(held)
	b.result.HelloHeld, b.result.HelloWorst = held[len(held)/2], held[len(held)-1]
	return nil
}

// oom is the core of much address space and little memory.
func (b *captureBench) oom(ctx context.Context) error {
	e, outside, err := b.die(ctx, inquest.TierFull, "-kind", "oom")
	if err != nil {
		return err
	}
	r := &b.result
	r.OOMVirtual, r.OOMMemory, r.OOMStored = e.Core.VirtualBytes, e.Core.MemoryBytes, e.Core.StoredBytes
	r.OOMHeld, r.OOMOutside = e.Held, outside
	return nil
}

// heap compares tiers of a large heap.
func (b *captureBench) heap(ctx context.Context) error {
	heap := strconv.Itoa(b.heapMiB)
	mini, _, err := b.die(ctx, inquest.TierMini, "-kind", "nil", "-heap", heap)
	if err != nil {
		return err
	}
	full, _, err := b.die(ctx, inquest.TierFull, "-kind", "nil", "-heap", heap)
	if err != nil {
		return err
	}
	r := &b.result
	r.HeapMini, r.HeapMiniHeld = mini.Core.StoredBytes, mini.Held
	r.HeapFull, r.HeapFullHeld = full.Core.StoredBytes, full.Held
	cmd, err := b.runVictim(ctx, "-http", "127.0.0.1:0", "-heap", heap)
	if err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if _, err := b.order(captureOrder{Tier: inquest.TierMini, Snapshot: cmd.Process.Pid}); err != nil {
		return err
	}
	e, err := b.event()
	r.HeapStop = e.Held
	return err
}

// big is a full core that is larger than the agent may be.
func (b *captureBench) big(ctx context.Context) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", b.agent.Process.Pid), []byte("5"), 0o600); err != nil { // the peak begins anew
		return err
	}
	e, _, err := b.die(ctx, inquest.TierFull, "-kind", "nil", "-heap", strconv.Itoa(b.bigMiB))
	if err != nil {
		return err
	}
	b.result.BigMemory, b.result.BigHeld = e.Core.MemoryBytes, e.Held
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.agent.Process.Pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	_, err = fmt.Sscan(rest, &kib)
	b.result.BigPeak = kib << 10
	return err
}

// reject are deaths at one place, of which nothing is wanted but a count.
func (b *captureBench) reject(ctx context.Context) error {
	before, err := b.order(captureOrder{Tier: inquest.TierNone})
	if err != nil {
		return err
	}
	from, err := cpuTime(b.agent.Process.Pid)
	if err != nil {
		return err
	}
	held := make([]time.Duration, b.rejections)
	var g errgroup.Group
	g.SetLimit(2 * runtime.NumCPU())
	for i := range held {
		g.Go(func() error {
			cmd, err := b.runVictim(ctx, "-kind", "nil")
			if err == nil {
				held[i] = dumping(cmd)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for {
		now, err := b.order(captureOrder{Tier: inquest.TierNone})
		if err != nil {
			return err
		}
		if now.Deaths-before.Deaths >= int64(len(held)) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	to, err := cpuTime(b.agent.Process.Pid)
	if err != nil || len(held) == 0 {
		return err
	}
	slices.Sort(held)
	b.result.Rejections, b.result.RejectHeld = len(held), held[len(held)/2]
	b.result.RejectCPU = (to - from) / time.Duration(len(held))
	return nil
}

// cpuTime is what the threads of a process used. One of Go's that idles keeps
// its threads.
func cpuTime(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, name := range tasks {
		var ns int64
		text, err := os.ReadFile(name)
		if err == nil {
			_, err = fmt.Sscan(string(text), &ns)
		}
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// zstd is what a pipe handler does that packs all it is given. It is stopped
// after a while, unless all is wanted. The pattern stays: it is the last step.
func (b *captureBench) zstd(ctx context.Context) error {
	bin, err := exec.LookPath("zstd")
	if err != nil {
		return fmt.Errorf("a pipe handler to compare with: %w", err)
	}
	pattern := fmt.Sprintf("|%s -1 -q -f -o %s/core.zst", bin, b.dir)
	if err := errors.Join(os.WriteFile(limitFile, []byte("4"), 0o600), os.WriteFile(patternFile, []byte(pattern), 0o600)); err != nil {
		return err
	}
	cmd, err := b.runVictim(ctx, "-kind", "oom")
	if err != nil {
		return err
	}
	ended := make(chan time.Duration, 1)
	go func() { ended <- dumping(cmd) }()
	r := &b.result
	from := time.Now()
	for r.ZstdWhole = true; ; time.Sleep(20 * time.Millisecond) {
		select {
		case r.ZstdHeld = <-ended:
			r.ZstdBytes = r.OOMVirtual
			return nil
		default:
		}
		if b.whole || time.Since(from) < 15*time.Second {
			continue
		}
		pid := handler(filepath.Join(b.dir, "core.zst"))
		if pid == 0 {
			continue
		}
		// The time it takes goes with the bytes, which are nearly all zero.
		r.ZstdBytes, r.ZstdWhole = readBytes(pid), false
		_ = syscall.Kill(pid, syscall.SIGKILL) // then the kernel lets the process go
		r.ZstdHeld = time.Duration(float64(<-ended) * float64(r.OOMVirtual) / float64(max(r.ZstdBytes, 1)))
		return nil
	}
}

// handler is the process that writes a file the kernel told it to.
func handler(file string) int {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is right
	for _, name := range dirs {
		args, err := os.ReadFile(name)
		if err == nil && strings.Contains(string(args), "\x00"+file) {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			return pid
		}
	}
	return 0
}

// readBytes is how much a process has read.
func readBytes(pid int) (n int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)) // 0 if it is gone
	_, rest, _ := strings.Cut(string(text), "rchar:")
	_, _ = fmt.Sscan(rest, &n)
	return n
}

// guardian is what package corepattern starts this program for.
func guardian(args []string) (is bool, err error) {
	if len(args) == 3 && args[1] == corepattern.CommandGuardian {
		return true, corepattern.Guardian(args[2], os.Stdin)
	}
	if len(args) == 3 && args[1] == captureCommand {
		return true, captureAgent(args[2], os.Stdin, os.Stdout)
	}
	return false, nil
}
