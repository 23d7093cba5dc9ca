package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/store"
)

// runRestore makes the data of a collector of a backup.
func runRestore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var in, data string
	s := settings.New("collector restore", "collector restore makes the data of a collector of a backup, every file of which is verified first.")
	s.Group("Flags")
	s.String(&in, "i", "", "the backup: a `PLACE` that is a directory, a tar file, or - for a tar stream on standard input").Path = true
	s.String(&data, "data", "", "data `DIRECTORY` with nothing stored in it; without it the one a collector would use").Path = true
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
	if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	line := newProgressLine(stderr)
	o := store.RestoreOptions{
		Dir:    storeDir(data),
		Logger: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Progress: func(p store.BackupProgress) {
			line.show(-1, fmt.Sprintf("%s %s", sizeText(p.Done), p.What))
		},
	}
	m, err := restoreFrom(ctx, in, o)
	line.clear()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "restored %d profiles in %s, %s, of %s to %s\n",
		m.Profiles, count(m.Blocks, "block", "blocks"), sizeText(m.Bytes), m.Created.UTC().Format("2006-01-02 15:04:05 UTC"), data)
	return warnMissing(stderr, m)
}

func restoreFrom(ctx context.Context, in string, o store.RestoreOptions) (*store.Manifest, error) {
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
