package crashtext

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/coredump"
)

const (
	maxJournalLine  = 1 << 20
	maxJournalPIDs  = 1024
	journalRetryMax = time.Minute
	journalQuiet    = 2 * time.Second // end a text
)

// journalEntry is a message of journald as journalctl -o json writes it.
type journalEntry struct {
	Cursor  string          `json:"__CURSOR"`
	Micros  string          `json:"__REALTIME_TIMESTAMP"`
	Message json.RawMessage `json:"MESSAGE"` // a string, or an array of bytes if it is not UTF-8
	PID     string          `json:"_PID"`
	Unit    string          `json:"_SYSTEMD_UNIT"`
}

// journalFields are all that is asked for.
const journalFields = "MESSAGE,_PID,_SYSTEMD_UNIT"

// text is the message.
func (e *journalEntry) text() []byte {
	var s string
	if json.Unmarshal(e.Message, &s) == nil {
		return []byte(s)
	}
	var b []int
	if json.Unmarshal(e.Message, &b) != nil {
		return nil
	}
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = byte(c)
	}
	return out
}

func (e *journalEntry) at() time.Time {
	n, err := strconv.ParseInt(e.Micros, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// journalStream is what one process writes.
type journalStream struct {
	scanner *coredump.Scanner
	last    time.Time    // something came
	entry   journalEntry // the last one, without its message
}

// journal reads the messages of journald.
type journal struct {
	w       *Watcher
	streams map[string]*journalStream // by process
	cursor  string                    // of the last message
}

// runJournal reads on, with pauses when the command ends.
func (w *Watcher) runJournal() {
	defer w.tasks.Done()
	j := &journal{w: w, streams: map[string]*journalStream{}}
	pause := time.Second
	for {
		began := time.Now()
		err := j.run()
		if w.ctx.Err() != nil {
			return
		}
		w.options.Logger.Warn("read the journal", "err", err)
		if time.Since(began) > journalRetryMax {
			pause = time.Second
		}
		select {
		case <-w.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, journalRetryMax)
	}
}

// run runs the command until it ends.
func (j *journal) run() error {
	j.w.mu.Lock()
	after := j.w.state.Journal
	j.w.mu.Unlock()
	clear(j.streams) // what they had begun comes again
	j.cursor = after
	cmd := exec.CommandContext(j.w.ctx, j.w.options.JournalCommand[0], append(j.w.options.JournalCommand[1:], j.args(after)...)...)
	var problem bytes.Buffer
	cmd.Stderr = &problem
	cmd.WaitDelay = time.Second // for what it may have started
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", j.w.options.JournalCommand[0], err)
	}
	lines := make(chan []byte)
	go func() {
		defer close(lines)
		s := bufio.NewScanner(out)
		s.Buffer(make([]byte, 64<<10), maxJournalLine)
		for s.Scan() {
			select {
			case lines <- bytes.Clone(s.Bytes()):
			case <-j.w.ctx.Done():
				return
			}
		}
	}()
	j.read(lines)
	_ = cmd.Cancel() // a line that is too long ends reading as well
	err = cmd.Wait()
	return fmt.Errorf("%s ended: %w: %.200s", j.w.options.JournalCommand[0], err, problem.Bytes())
}

func (j *journal) args(after string) []string {
	args := []string{"--follow", "--output=json", "--output-fields=" + journalFields, "--quiet", "--no-pager"}
	if after == "" {
		args = append(args, "--lines=0")
	} else {
		args = append(args, "--no-tail", "--after-cursor="+after)
	}
	args = append(args, "_TRANSPORT=stdout")
	for _, u := range j.w.options.Units {
		args = append(args, "_SYSTEMD_UNIT="+u)
	}
	return args
}

func (j *journal) read(lines <-chan []byte) {
	tick := time.NewTicker(journalQuiet / 2)
	defer tick.Stop()
	for {
		select {
		case <-j.w.ctx.Done():
			return
		case line, ok := <-lines:
			if !ok {
				return
			}
			var e journalEntry
			if json.Unmarshal(line, &e) == nil {
				j.take(&e)
			}
		case <-tick.C:
			j.quiet()
		}
	}
}

// take takes one message.
func (j *journal) take(e *journalEntry) {
	s := j.streams[e.PID]
	if s == nil {
		if len(j.streams) >= maxJournalPIDs {
			j.drop()
		}
		s = &journalStream{}
		s.scanner = coredump.NewScanner(j.w.options.Limits, func(t *coredump.Text) { j.found(s, t) })
		j.streams[e.PID] = s
	}
	s.entry = *e
	s.entry.Message = nil
	s.last = time.Now()
	for line := range bytes.SplitSeq(e.text(), []byte("\n")) {
		s.scanner.Message(line, e.at())
	}
	j.cursor = e.Cursor
	j.mark()
}

// mark remembers the last message behind which nothing is unfinished.
func (j *journal) mark() {
	cursor := j.cursor
	for _, s := range j.streams {
		if s.scanner.Inside() {
			// Cursors cannot be compared; some messages more are read again than need be.
			return
		}
	}
	j.w.mu.Lock()
	defer j.w.mu.Unlock()
	if j.w.state.Journal != cursor {
		j.w.state.Journal = cursor
		j.w.changed = true
	}
}

// quiet ends texts of processes that say no more.
func (j *journal) quiet() {
	for pid, s := range j.streams {
		if time.Since(s.last) < journalQuiet {
			continue
		}
		n, err := strconv.Atoi(pid)
		if err == nil {
			_, err = host.Identify(n)
		}
		s.scanner.Flush(err != nil) // it is gone
		delete(j.streams, pid)
	}
	j.mark()
}

// drop makes room: for whoever has nothing begun, else for all.
func (j *journal) drop() {
	for pid, s := range j.streams {
		if !s.scanner.Inside() {
			delete(j.streams, pid)
		}
	}
	for pid, s := range j.streams {
		if len(j.streams) < maxJournalPIDs {
			return
		}
		s.scanner.Flush(false)
		delete(j.streams, pid)
	}
}

func (j *journal) found(s *journalStream, t *coredump.Text) {
	const source = "journal"
	pid, _ := strconv.Atoi(s.entry.PID)
	unit := strings.TrimSuffix(s.entry.Unit, ".service")
	var c inquest.Crash
	if p := j.w.owners.byPID(pid); p != nil && !p.Started.After(t.At) {
		c = p.crash(source)
	} else {
		c = inquest.Crash{Kind: inquest.CrashDeath, Tier: inquest.TierText, Source: []string{source}, PID: pid, Service: unit}
		if c.Service == "" || inquest.ValidateLabel(inquest.LabelService, c.Service) != nil {
			c.Service = "unnamed"
		}
		c.ID = inquest.TextID(c.Service, s.entry.PID, t.At, t.Head)
	}
	if s.entry.Unit != "" {
		c.Facts = &inquest.Facts{Unit: s.entry.Unit}
	}
	c.At = t.At
	j.w.options.Joiner.Tell(c, t)
}
