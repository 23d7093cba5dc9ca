package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/goinquest/inquest/store"
)

// settleCommand has this program do at once what a collector does with its
// blocks in the background, in a process whose processor time is known.
const settleCommand = "settle"

func settleStore(ctx context.Context, dir string) error {
	s, err := store.Open(ctx, store.Options{Dir: filepath.Join(dir, "store")})
	if err != nil {
		return err
	}
	return errors.Join(s.Settle(ctx), s.Close())
}

// settle has the blocks of the stopped collector merged and rolled up.
func (b *bench) settle(ctx context.Context) error {
	b.progress.Step(b.name+": merging and rolling up", 0, 1)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, settleCommand, b.data)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("merge and roll up: %w", err)
	}
	r, p := b.result, cmd.ProcessState
	r.CPUMillis = r.BlockMillis + b.perProfile(p.UserTime()+p.SystemTime())
	r.CPURatio = r.CPUMillis / r.GunzipMillis
	b.progress.Step(b.name+": merging and rolling up", 1, 1)
	return nil
}
