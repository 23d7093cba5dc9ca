package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/store"
)

// runRestore makes the data of a collector of a backup.
func runRestore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var in, data, deletions string
	s := settings.New("collector restore", "collector restore makes the data of a collector of a backup, every file of which is verified first.")
	s.Group("Flags")
	s.String(&in, "i", "", "the backup: a `PLACE` that is a directory, a tar file, or - for a tar stream on standard input").Path = true
	s.String(&data, "data", "", "data `DIRECTORY` with nothing stored in it; without it the one a collector would use").Path = true
	s.String(&deletions, "deletions", "", "`FILE` that says what was deleted on request, so that what was after the backup is not there again: "+
		"deletions.jsonl in the store directory of the data the backup is of, or an answer of GET /api/v1/deletions").Path = true
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if in == "" {
		return settings.Errorf("a restore needs a backup, as in: collector restore -i /backups/inquest -data /var/lib/inquest")
	}
	if data == "" {
		var err error
		if data, err = defaultData(); err != nil {
			return err
		}
	}
	ds, err := readDeletions(deletions, stderr)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	line := program.NewProgressLine(stderr)
	o := store.RestoreOptions{
		Dir:       storeDir(data),
		Deletions: ds,
		Logger:    slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Progress: func(p store.BackupProgress) {
			line.Show(-1, fmt.Sprintf("%s %s", settings.SizeText(p.Done), p.What))
		},
	}
	m, err := restoreFrom(ctx, in, o)
	line.Clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "restored %d profiles in %s%s, %s, of %s to %s\n",
		m.Profiles, count(m.Blocks, "block", "blocks"), andBinaries(m.Binaries, m.Cores), settings.SizeText(m.Bytes), m.Created.UTC().Format(utcForm), data)
	if deletions == "" {
		err = warnDeletions(stderr, m)
	} else {
		err = sayDeleted(stdout, stderr, m)
	}
	return errors.Join(err, warnMissing(stderr, m.Manifest))
}

// readDeletions reads the file of -deletions. What cannot be read of it is
// named, and the rest is used.
func readDeletions(name string, stderr io.Writer) ([]store.Deletion, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, settings.Errorf("-deletions: %w", err)
	}
	defer f.Close()
	ds, damaged, err := store.ReadDeletions(f)
	if err != nil {
		return nil, settings.Errorf("-deletions %s: %w", name, err)
	}
	for _, err := range damaged {
		fmt.Fprintf(stderr, "%s, %v: the deletion that it was is not done again\n", name, err)
	}
	return ds, nil
}

const utcForm = "2006-01-02 15:04:05 UTC"

// warnDeletions says what a restore does not know without -deletions.
func warnDeletions(stderr io.Writer, m *store.Restoration) error {
	_, err := fmt.Fprintf(stderr, "what was deleted on request after %s, if anything was, is there again: a backup cannot know of it. "+
		"To have it deleted again, restore into another directory with -deletions FILE: deletions.jsonl in the store directory of the data "+
		"the backup is of, or an answer of GET /api/v1/deletions\n", m.Created.UTC().Format(utcForm))
	return err
}

// sayDeleted says what was deleted again.
func sayDeleted(stdout, stderr io.Writer, m *store.Restoration) error {
	profiles := int64(0)
	for i := range m.Deleted {
		profiles += m.Deleted[i].Profiles
	}
	_, err := fmt.Fprintf(stdout, "did %s again that %s asked for after the backup: %d profiles are hidden, and taken off the disk when a collector runs\n",
		count(len(m.Deleted), "deletion", "deletions"), plural(len(m.Deleted), "was", "were"), profiles)
	for i := range m.Old {
		d := &m.Old[i]
		_, e := fmt.Fprintf(stderr, "the deletion of service %q asked for at %s is not done: that was before the backup, which does not know of it, so it is of other data\n",
			d.Service, d.At.UTC().Format(utcForm))
		err = errors.Join(err, e)
	}
	return err
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func restoreFrom(ctx context.Context, in string, o store.RestoreOptions) (*store.Restoration, error) {
	if in == "-" {
		return store.RestoreTar(ctx, os.Stdin, o)
	}
	st, err := os.Stat(in)
	if err != nil {
		return nil, settings.Errorf("-i: %w", err)
	}
	if st.IsDir() {
		return store.RestoreDir(ctx, in, o)
	}
	f, err := os.Open(in)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return store.RestoreTar(ctx, f, o)
}
