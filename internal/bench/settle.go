package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"

	"github.com/goinquest/inquest/internal/proc"
	"github.com/goinquest/inquest/store"
)

// settleCommand has this program do at once what a collector does with its
// blocks in the background, in a process whose processor time is known.
const settleCommand = "settle"

// settleStore settles the store of a collector's data directory and leaves a
// CPU profile of that in a file, if it has a name.
func settleStore(ctx context.Context, data, cpu string) error {
	if cpu != "" {
		f, err := os.Create(cpu)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	s, err := store.Open(ctx, store.Options{Dir: filepath.Join(data, "store")})
	if err != nil {
		return err
	}
	return errors.Join(s.Settle(ctx), s.Close())
}

// weighStore says what the blocks hold.
func weighStore(ctx context.Context, data string) (store.CheckSpace, error) {
	r, err := store.Check(ctx, store.CheckOptions{Dir: filepath.Join(data, "store")})
	if err != nil {
		return store.CheckSpace{}, err
	}
	if !r.Whole() {
		return store.CheckSpace{}, fmt.Errorf("the store is damaged: %+v", r.Problems)
	}
	return r.Space, nil
}

// settle has the blocks of the stopped collector merged and rolled up, by a
// program that is optimized as the collector is.
func (b *bench) settle(ctx context.Context) error {
	b.progress.Step(b.name+": merging and rolling up", 0, 1)
	bin, cpu := filepath.Join(b.dir, "settle"), ""
	err := proc.Build(ctx, bin, "github.com/goinquest/inquest/internal/bench", "-pgo", b.pgo)
	if err != nil {
		return err
	}
	if b.recorder != nil {
		cpu = filepath.Join(b.dir, "settle.pb.gz")
	}
	cmd := exec.CommandContext(ctx, bin, settleCommand, b.data, cpu)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("merge and roll up: %w", err)
	}
	if err := b.recorder.add(cpu); err != nil {
		return err
	}
	r, p := b.result, cmd.ProcessState
	r.CPUMillis = r.BlockMillis + b.perProfile(p.UserTime()+p.SystemTime())
	r.CPURatio = r.CPUMillis / r.GunzipMillis
	b.progress.Step(b.name+": merging and rolling up", 1, 1)
	r.Space, err = weighStore(ctx, b.data)
	return err
}
