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
	"path/filepath"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/coredump"
)

// captureCommand is what this program is called with to be the process that
// takes cores: "capture-agent DIR". It reads orders
// and writes answers and events, all of them lines of JSON.
const captureCommand = "capture-agent"

// captureAgent takes the cores of this host until its input ends.
func captureAgent(dir string, in io.Reader, out io.Writer) (err error) {
	s := &captureSink{dir: dir, out: json.NewEncoder(out)}
	c, err := capture.New(capture.Options{
		Sink: s, PerKey: capture.Rate{Burst: -1}, PerService: capture.Rate{Burst: -1}, RateBytes: -1, FreeBytes: 1,
		Events: capture.Rate{Burst: 100, Every: 10 * time.Second},
	})
	if err != nil {
		return err
	}
	c.Start()
	defer c.Stop()
	l, err := corepattern.Start(corepattern.Options{Mode: corepattern.ModeSocket, Handle: func(ctx context.Context, d *corepattern.Death) {
		if ppid(d.PID) != os.Getppid() { // somebody else's dies on this host
			_ = d.Foreign() // there is nobody to tell
			return
		}
		c.Death(ctx, d)
	}, Dir: dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Stop()) }()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var order captureOrder
		if err := json.Unmarshal(lines.Bytes(), &order); err != nil {
			return err
		}
		c.SetPolicy(inquest.CapturePolicy{Default: order.Tier})
		if err := s.say(captureHeard{State: c.State()}); err != nil {
			return err
		}
		if order.Snapshot == 0 {
			continue
		}
		if _, err := c.Snapshot(context.Background(), order.Snapshot, order.Tier); err != nil {
			return err
		}
	}
	return lines.Err()
}

// captureOrder is what the agent is told: which tier deaths are kept in, or
// to copy a process.
type captureOrder struct {
	Tier     inquest.Tier
	Snapshot int `json:",omitempty"` // a pid
}

// captureHeard answers an order.
type captureHeard struct{ State inquest.CaptureState }

// captureSink counts cores, and keeps none.
type captureSink struct {
	dir string
	mu  sync.Mutex
	out *json.Encoder
}

func (s *captureSink) Room() int64 { return 1 << 50 }

func (s *captureSink) Crash(c inquest.Crash) error { return s.say(c) }

func (s *captureSink) say(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Encode(v)
}

func (s *captureSink) Begin(inquest.Crash) (capture.CoreFile, error) {
	f, err := os.CreateTemp(filepath.Join(s.dir), "core-")
	return &captureCore{f, s}, err
}

type captureCore struct {
	*os.File
	sink *captureSink
}

func (c *captureCore) Commit(e inquest.Crash, _ *coredump.Ledger) error {
	return errors.Join(c.Abort(), c.sink.Crash(e))
}

func (c *captureCore) Abort() error { return errors.Join(c.Close(), os.Remove(c.Name())) }

// ppid is the parent of a process, 0 if it is gone.
func ppid(pid int) (parent int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, _ = fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), " %c %d", new(rune), &parent)
	return parent
}
