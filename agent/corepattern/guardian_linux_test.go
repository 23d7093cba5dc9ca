package corepattern_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/proc"
)

// agent is a listener in a process of its own, and the gaps that it was told.
// What is said to it makes it crash.
func agent(t *testing.T, mode, exe, dir string, say ...string) (cmd *exec.Cmd, gaps int, stop func()) {
	t.Helper()
	cmd = exec.Command(exe, "listen", mode, dir)
	if say == nil {
		cmd.Stderr = os.Stderr
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		gaps, err = strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(line), "listening "))
	}
	if err != nil {
		t.Fatalf("the agent says %q: %v", line, err)
	}
	return cmd, gaps, func() {
		for _, s := range say {
			io.WriteString(in, s)
		}
		in.Close()
		if say != nil {
			cmd.Wait()
			return
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// within waits until what is expected holds, for a second at most.
func within(t *testing.T, what string, holds func() bool) time.Duration {
	t.Helper()
	from := time.Now()
	for !holds() {
		if time.Since(from) > time.Second {
			t.Errorf("not within a second: %s", what)
			break
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(from)
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range tasks {
		data, _ := os.ReadFile(name)
		for _, f := range strings.Fields(string(data)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, n)
		}
	}
	return pids
}

// ended says that a process is no more, or waits only for being collected.
func ended(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(data), ") Z ")
}

func TestGuardianRestoresWhenTheAgentIsKilled(t *testing.T) {
	for _, mode := range []string{corepattern.ModeSocket, corepattern.ModePipe} {
		t.Run(mode, func(t *testing.T) {
			proc.TakeCorePattern(t, "")
			if mode == corepattern.ModeSocket {
				needSocket(t)
			}
			write(t, patternFile, "core.before")
			before, limit := read(t, patternFile), read(t, limitFile)
			exe, dir := handler(t), short(t)
			cmd, gaps, _ := agent(t, mode, exe, dir)
			if gaps != 0 {
				t.Errorf("%d gaps at first", gaps)
			}
			if read(t, patternFile) == before {
				t.Fatal("the pattern is not the agent's")
			}
			guardian := children(t, cmd.Process.Pid)
			cmd.Process.Kill()
			took := within(t, "the old pattern is back", func() bool {
				return read(t, patternFile) == before && read(t, limitFile) == limit
			})
			t.Logf("the old pattern was back after %v", took)
			cmd.Wait()
			for _, pid := range guardian {
				for from := time.Now(); !ended(pid); time.Sleep(time.Millisecond) {
					if time.Since(from) > 10*time.Second {
						t.Fatal("the guardian does not end")
					}
				}
			}
			// The next agent knows, the one after it has nothing to know.
			_, gaps, stop := agent(t, mode, exe, dir)
			stop()
			if gaps != 1 {
				t.Errorf("%d gaps told, want 1", gaps)
			}
			if _, gaps, stop = agent(t, mode, exe, dir); gaps != 0 {
				t.Errorf("%d gaps told, want 0", gaps)
			}
			stop()
			if got := read(t, patternFile); got != before {
				t.Errorf("pattern %q at last, want %q", got, before)
			}
		})
	}
}

// TestAgentThatCrashes would itself be a death to tell to itself.
func TestAgentThatCrashes(t *testing.T) {
	for _, mode := range []string{corepattern.ModeSocket, corepattern.ModePipe} {
		t.Run(mode, func(t *testing.T) {
			proc.TakeCorePattern(t, "")
			if mode == corepattern.ModeSocket {
				needSocket(t)
			}
			before := read(t, patternFile)
			cmd, _, stop := agent(t, mode, handler(t), short(t), "die")
			timer := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() })
			stop()
			if !timer.Stop() {
				t.Error("the agent hung in its own death")
			}
			within(t, "the old pattern is back", func() bool { return read(t, patternFile) == before })
		})
	}
}

func TestGuardianIsStartedAgain(t *testing.T) {
	proc.TakeCorePattern(t, "")
	before := read(t, patternFile)
	cmd, _, _ := agent(t, corepattern.ModePipe, handler(t), short(t))
	first := children(t, cmd.Process.Pid)
	if len(first) != 1 {
		t.Fatalf("children %v, want one guardian", first)
	}
	// What ends a service does not end its guardian first.
	syscall.Kill(first[0], syscall.SIGTERM)
	time.Sleep(20 * time.Millisecond)
	syscall.Kill(first[0], syscall.SIGKILL)
	var second []int
	from := time.Now()
	for len(second) == 0 || second[0] == first[0] {
		if time.Since(from) > 3*time.Second {
			t.Fatal("no other guardian was started")
		}
		time.Sleep(10 * time.Millisecond)
		second = children(t, cmd.Process.Pid)
	}
	if read(t, patternFile) == before {
		t.Error("the pattern is gone with the guardian")
	}
	time.Sleep(50 * time.Millisecond) // for it to get to its work
	cmd.Process.Kill()
	within(t, "the second guardian restores", func() bool { return read(t, patternFile) == before })
	cmd.Wait()
}

// TestRestore is what ExecStopPost= does when the guardian was killed too.
func TestRestore(t *testing.T) {
	proc.TakeCorePattern(t, "")
	before := read(t, patternFile)
	exe, dir := handler(t), short(t)
	cmd, _, _ := agent(t, corepattern.ModePipe, exe, dir)
	if _, err := corepattern.Restore(dir); !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("restored beside an agent that lives: %v", err)
	}
	kill := func() {
		for _, pid := range children(t, cmd.Process.Pid) {
			syscall.Kill(pid, syscall.SIGSTOP) // not to be replaced in time
			defer syscall.Kill(pid, syscall.SIGKILL)
		}
		cmd.Process.Kill()
		cmd.Wait()
	}
	kill()
	if read(t, patternFile) == before {
		t.Fatal("there is nothing to restore")
	}
	if did, err := corepattern.Restore(dir); !did || err != nil {
		t.Errorf("restore: %v, %v", did, err)
	}
	if got := read(t, patternFile); got != before {
		t.Errorf("pattern %q, want %q", got, before)
	}
	if did, err := corepattern.Restore(dir); did || err != nil {
		t.Errorf("restore again: %v, %v", did, err)
	}

	// Without any of this, the next agent sees through what was left behind,
	// wherever it keeps its own state.
	var gaps int
	cmd, gaps, _ = agent(t, corepattern.ModePipe, exe, dir)
	if gaps != 1 {
		t.Errorf("%d gaps, want 1", gaps)
	}
	kill()
	other := short(t)
	_, gaps, stop := agent(t, corepattern.ModePipe, exe, other)
	if gaps != 1 {
		t.Errorf("%d gaps, want 1", gaps)
	}
	stop()
	if got := read(t, patternFile); got != before {
		t.Errorf("pattern %q after all, want %q", got, before)
	}
}

func TestSecondAgentStaysOut(t *testing.T) {
	proc.TakeCorePattern(t, "")
	exe, dir := handler(t), short(t)
	_, _, stop := agent(t, corepattern.ModePipe, exe, dir)
	defer stop()
	ours := read(t, patternFile)
	for _, where := range []string{dir, short(t)} {
		_, err := corepattern.Start(corepattern.Options{Dir: where, Handle: (&deaths{}).head})
		if !errors.Is(err, inquest.ErrConflict) {
			t.Errorf("second agent in %s: %v", where, err)
		}
	}
	if got := read(t, patternFile); got != ours {
		t.Errorf("pattern %q, want that of the first, %q", got, ours)
	}
}

// TestForeignChangeIsLeft sees that a pattern which somebody set meanwhile
// stays, and is told of.
func TestForeignChangeIsLeft(t *testing.T) {
	proc.TakeCorePattern(t, "")
	l := start(t, corepattern.Options{Mode: corepattern.ModePipe, Exe: handler(t), Handle: (&deaths{}).head})
	write(t, patternFile, "core.other")
	if st := l.State(); !strings.Contains(st.Problem, "core.other") {
		t.Errorf("problem %q", st.Problem)
	}
	if err := l.Stop(); err != nil {
		t.Error(err)
	}
	if got := read(t, patternFile); got != "core.other" {
		t.Errorf("pattern %q", got)
	}
}

func TestTry(t *testing.T) {
	proc.TakeCorePattern(t, "")
	before := read(t, patternFile)
	exe := handler(t)
	for _, mode := range []string{corepattern.ModeAuto, corepattern.ModePipe} {
		got, err := corepattern.Try(t.Context(), corepattern.Options{Mode: mode, Dir: short(t), Exe: exe})
		if err != nil {
			t.Fatal(err)
		}
		if got.Signal != int(syscall.SIGABRT) || mode != corepattern.ModeAuto && got.Mode != mode {
			t.Errorf("trial %+v", got)
		}
	}
	if got := read(t, patternFile); got != before {
		t.Errorf("pattern %q, want %q", got, before)
	}
	write(t, patternFile, short(t)+"/core.%P")
	if got, err := corepattern.Try(t.Context(), corepattern.Options{Mode: corepattern.ModeDirectory, Exe: exe}); err != nil {
		t.Errorf("trial %+v: %v", got, err)
	}
}
