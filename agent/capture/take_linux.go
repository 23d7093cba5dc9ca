package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/symbolize"
)

// taking is a core that is being taken of a process that stands still.
type taking struct {
	event   *inquest.Crash // it is told with Core, Tier, Held, Facts and maybe Reason
	live    *live
	build   *inquest.Build
	funcs   *symbolize.Functions // nil: there are none
	notes   []byte
	told    []coredump.Segment   // what the kernel would dump; nil: it has not said
	release func() time.Duration // lets the process go; how long it was held
	until   time.Time            // when what is not read is left out
	late    string               // why something was not read by then
	goOn    time.Time            // when a process that lives goes on, while reading does too; zero: when all is read
	mini    []coredump.Extent    // what a minicore has, by address; nil: it is found out
	missing []string             // besides what the copy misses
	facts   func() *inquest.Facts
}

// take takes a core of the tier that is wanted, or of a lesser one: Reason
// says why then. Without room for any there is no error, and no Core.
func (c *Capturer) take(ctx context.Context, t *taking, tier inquest.Tier) error {
	if err := c.buffers.open(); err != nil {
		return err
	}
	defer c.buffers.close()
	present, own, err := t.live.present(t.told)
	if err != nil {
		return err
	}
	mini := t.mini
	if mini == nil {
		if mini, err = t.choose(t.live.process, own, c.opts.MiniBytes); err != nil {
			return err
		}
	}
	p := newPlan(t.live.regions, present, mini, tier)
	if tier == inquest.TierFull {
		if reason := c.tooMuch(p.total); reason != "" {
			tier, t.event.Reason = inquest.TierMini, reason
			p = newPlan(t.live.regions, present, mini, tier)
		}
	}
	if need := packedSize(p.total); c.opts.Sink.Room()-c.opts.FreeBytes < need {
		t.event.Reason = fmt.Sprintf("there is no room for a core of about %s", size(uint64(need)))
		return nil
	}
	return c.write(ctx, t, p, tier)
}

// tooMuch says why a full core of so many bytes of memory is not taken now.
func (c *Capturer) tooMuch(bytes uint64) string {
	now := c.now()
	most := c.opts.RateBytes * int64(bytesOver.Seconds())
	switch room := c.budget.room(now); {
	case c.opts.Sink.Room()-c.opts.FreeBytes < packedSize(bytes):
		return fmt.Sprintf("there is no room for a full core of %s of memory", size(bytes))
	case room < int64(bytes) && room < most/10*9: // one that is larger than the budget waits until nothing else was copied
		return fmt.Sprintf("a full core has %s of memory, and enough was copied on this host lately", size(bytes))
	}
	return ""
}

// packedSize is how large a core becomes, at a guess: a third of its memory.
func packedSize(bytes uint64) int64 { return int64(bytes/3) + 64<<10 }

// choose selects what a minicore has of a process, of whose own memory the
// pages in own are there; nil: that is not known.
func (t *taking) choose(p *coredump.Process, own []coredump.Extent, most int64) ([]coredump.Extent, error) {
	r, err := coredump.OpenRuntime(p, t.funcs)
	if err != nil {
		r = nil
		t.missing = append(t.missing, "goroutines: "+clip(err.Error()))
	}
	mini, err := coredump.Select(p, r, coredump.Selection{Present: own, Bytes: uint64(max(most, 0))})
	if err != nil {
		return nil, fmt.Errorf("choose memory: %w", err)
	}
	return mini, nil
}

// blanker knows what of a process's arguments and environment is not to leave
// the host. What cannot be known cannot be blanked, so there is no core then.
// pid is 0 if there is no such process any more.
func (c *Capturer) blanker(p *coredump.Process, pid int) (*coredump.Blanker, error) {
	a, err := coredump.ReadArguments(p)
	if err != nil && pid != 0 {
		a, err = toldArguments(pid)
	}
	if err != nil {
		return nil, fmt.Errorf("find out what to blank: %w", err)
	}
	return coredump.NewBlanker(p, a, c.opts.Blank), nil
}

// toldArguments are those the kernel tells of a process, wherever they are.
func toldArguments(pid int) (*coredump.Arguments, error) {
	read := func(name string) (out []coredump.Argument, err error) {
		data, err := readSome(fmt.Sprintf("/proc/%d/%s", pid, name), maxMapsBytes)
		for text := range strings.SplitSeq(string(data), "\x00") {
			if text != "" {
				out = append(out, coredump.Argument{Text: text})
			}
		}
		return out, err
	}
	args, err1 := read("cmdline")
	env, err2 := read("environ")
	if err := errors.Join(err1, err2); err != nil {
		return nil, processError(err)
	}
	return &coredump.Arguments{Args: args, Env: env}, nil
}

// write copies the memory of a plan into a core.
func (c *Capturer) write(ctx context.Context, t *taking, p *plan, tier inquest.Tier) error {
	e, b := t.event, t.build
	blanker, err := c.blanker(t.live.process, t.live.pid)
	if err != nil {
		return err
	}
	p.header.Notes, p.header.Machine = slices.Clone(t.notes), machines[t.live.process.Arch]
	blanker.BlankNotes(p.header.Notes)
	core := inquest.Core{
		Crash: e.ID, Tier: tier, Arch: t.live.process.Arch, GoVersion: b.GoVersion, Build: b.ID, GoBuildID: b.GoBuildID,
		Threads: len(t.live.process.Threads), MemoryBytes: int64(p.total),
	}
	core.Missing = append(t.missing, p.missing()...)
	p.header.Core = core
	begun := *e
	begun.Tier, begun.Core = tier, &core
	file, err := c.opts.Sink.Begin(begun)
	if err != nil {
		return fmt.Errorf("begin core: %w", err)
	}
	done := false
	defer func() {
		if !done {
			if err := file.Abort(); err != nil {
				c.log.Error("abort core", "crash", e.ID, inquest.LogErr, err)
			}
		}
	}()
	w, err := coredump.NewWriter(file, &p.header)
	if err != nil {
		return err
	}
	facts := make(chan *inquest.Facts, 1)
	go func() { facts <- t.facts() }()
	cp := &copier{buffers: c.buffers, from: t.live.memory, page: t.live.memory.page, to: w, until: t.until, goOn: t.goOn,
		blank: func(p []byte, addr uint64) { blanker.Blank(p, addr) }}
	out, err := cp.copy(ctx, p.header.Extents, func() {
		e.Facts = <-facts
		e.Held = t.release()
	})
	c.budget.copied(int64(out.bytes), c.now())
	c.metrics.memory.Add(float64(out.bytes))
	if err != nil {
		return err
	}
	if out.bytes == 0 || e.Kind == inquest.CrashSnapshot && out.ended && out.bytes < p.mini {
		return inquest.Errorf(inquest.ErrNotFound, "%s of %s of its memory could be read", size(out.bytes), size(p.total))
	}
	out.say(&core, p.total, t.late)
	core.Blanked = blanker.What()
	w.Describe(core)
	ledger, err := w.Close()
	if err != nil {
		return err
	}
	done = true
	core = ledger.Header().Core
	e.Tier, e.Core = tier, &core
	if tier == inquest.TierFull && out.late && out.bytes+out.unreadable <= p.mini {
		e.Tier, core.Tier = inquest.TierMini, inquest.TierMini
	}
	if err := file.Commit(*e, ledger); err != nil {
		e.Tier, e.Core = inquest.TierNone, nil
		return fmt.Errorf("commit core: %w", err)
	}
	c.metrics.stored.Add(float64(core.StoredBytes))
	return nil
}
