package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/store"
)

const backupPath = "/api/v1/admin/backup"

// backupFlags are the flags of collector backup.
type backupFlags struct {
	place
	Out string

	line *program.ProgressLine
	log  *slog.Logger
}

// runBackup copies the data of a collector.
func runBackup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := &backupFlags{line: program.NewProgressLine(stderr), log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	s := settings.New("collector backup", "collector backup copies everything stored, of a running collector or of one that does not run. "+
		"Made again into the same directory it copies what is new and removes what is gone.")
	s.Group("Flags")
	f.define(s)
	s.String(&f.Out, "o", "", "where it goes: a `PLACE` that ends in .tar, - for a tar stream on standard output, else a directory").Path = true
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if f.Out == "" {
		return settings.Errorf("a backup needs a place, as in: collector backup -url http://127.0.0.1:7070 -o /backups/inquest")
	}
	if err := f.check(s); err != nil {
		return err
	}
	began := time.Now()
	m, err := f.run(ctx, stdout)
	f.line.Clear()
	if err != nil || f.Out == "-" || m == nil {
		return err
	}
	fmt.Fprintf(stdout, "backed up %d profiles in %s%s, %s, to %s in %s\n",
		m.Profiles, count(m.Blocks, "block", "blocks"), andBinaries(m.Binaries, m.Cores), settings.SizeText(m.Bytes), f.Out, time.Since(began).Round(time.Millisecond))
	return warnMissing(stderr, m)
}

// andBinaries says how many binaries and cores there are, if any.
func andBinaries(binaries, cores int) (text string) {
	if binaries > 0 {
		text = " and " + count(binaries, "binary", "binaries")
	}
	if cores > 0 {
		text += " and " + count(cores, "core", "cores")
	}
	return text
}

// warnMissing names blocks that could not be backed up.
func warnMissing(stderr io.Writer, m *store.Manifest) error {
	if len(m.Missing) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(stderr, "%s named in the catalog had no file: %s; collector check says what that costs\n",
		count(len(m.Missing), "block", "blocks"), strings.Join(m.Missing, ", "))
	return err
}

func (f *backupFlags) progress(p store.BackupProgress) {
	part := -1.0
	if p.Total > 0 {
		part = float64(p.Done) / float64(p.Total)
	}
	f.line.Show(part, p.What)
}

// run makes the backup. The manifest is nil if only the stream has it.
func (f *backupFlags) run(ctx context.Context, stdout io.Writer) (m *store.Manifest, err error) {
	var s *store.Store
	if f.URL == "" {
		if s, err = f.open(ctx); err != nil {
			return nil, err
		}
		defer func() {
			if e := s.Close(); err == nil {
				err = e
			}
		}()
	}
	toTar := func(w io.Writer) (err error) {
		if s != nil {
			m, err = s.BackupTar(ctx, w, nil, f.progress)
			return err
		}
		return f.copyTar(ctx, w)
	}
	switch {
	case f.Out == "-":
		return nil, toTar(stdout)
	case strings.HasSuffix(f.Out, ".tar"):
		return m, writeWhole(f.Out, toTar)
	case s != nil:
		return s.BackupDir(ctx, f.Out, f.progress)
	}
	return store.FetchBackup(ctx, f.Out, func(have map[string]int64) (io.ReadCloser, error) {
		want, err := json.Marshal(map[string]any{"have": have})
		if err != nil {
			return nil, err
		}
		return f.call(ctx, http.MethodPost, backupPath, want)
	}, func(p store.BackupProgress) {
		f.line.Show(-1, fmt.Sprintf("%s %s", settings.SizeText(p.Done), p.What))
	})
}

// open opens the store of a collector that does not run.
func (f *backupFlags) open(ctx context.Context) (*store.Store, error) {
	dir, err := f.existing()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, store.Options{Dir: dir, Logger: f.log, Idle: true})
	if err != nil {
		return nil, openError(inUse(err, "back it up while it runs", "backup -o "+f.Out), f.Data)
	}
	for s.Ready() != nil {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			_ = s.Close() // what is wrong is that it was stopped
			return nil, ctx.Err()
		}
	}
	return s, nil
}

// copyTar writes what a running collector sends.
func (f *backupFlags) copyTar(ctx context.Context, w io.Writer) error {
	body, err := f.call(ctx, http.MethodGet, backupPath, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, &shown{body, f.line, 0}); err != nil {
		return inquest.Errorf(inquest.ErrUnavailable, "the backup was cut off, see the collector's log: %w", err)
	}
	return nil
}

// shown is a reader whose progress is shown.
type shown struct {
	r    io.Reader
	line *program.ProgressLine
	n    int64
}

func (s *shown) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	s.line.Show(-1, settings.SizeText(s.n))
	return n, err
}

// writeWhole writes a file that gets its name when all of it is durable.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	return err
}
