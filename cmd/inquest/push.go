package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/push"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
)

// defineCollector makes the settings that say where the collector is.
func defineCollector(s *settings.Set, o *remote.Options, scopes string) {
	o.Scopes = scopes
	s.Group("Collector")
	s.String(&o.URL, "to", "", "`URL` of the collector; required")
	s.String(&o.TokenFile, "token-file", "", "`FILE` that holds a token with the "+scopes).Path = true
	s.String(&o.CAFile, "tls-ca", "", "PEM `FILE` with certificates to trust the collector by, instead of the system's").Path = true
}

// connect prepares the client these settings describe.
func connect(o remote.Options) (*remote.Client, error) {
	if o.URL == "" {
		return nil, settings.Errorf("where is the collector? give -to URL, as in -to http://127.0.0.1:7070")
	}
	c, err := remote.New(o)
	if err != nil {
		return nil, settings.Errorf("%w", err)
	}
	return c, nil
}

// runPush stores binaries in a collector.
func runPush(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var to remote.Options
	var o push.Options
	var asJSON, verbose bool
	s := settings.New("inquest push", "inquest push stores executables, libraries and debug companions in a collector, which names functions and lines with them. "+
		"Directories are searched for ELF files. With -source it stores their source files, too: those, and only those, that the programs name. What is there already is not sent, and what was sent of a file is not sent again. "+
		"Exit codes: 0 all is stored, 1 something went wrong, 2 called wrongly, 3 the collector refuses a file.")
	s.Arguments(&o.Paths, "FILE…", 0)
	defineCollector(s, &to, "scope ingest")
	s.Group("Source")
	s.String(&o.SourceDir, "source", "", "send source files as well; of programs built with -trimpath, `DIR` is the root of their module (-source . is here)").Path = true
	s.Bool(&verbose, "v", false, "list the source files that are missing, and why")
	s.Group("Sending")
	s.Size(&o.RateBytes, "rate", 0, 0, "`BYTES` a second to send at most; 0 is no bound").Default = ""
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if len(o.Paths) == 0 {
		return settings.Errorf("push what? name executables or directories, as in inquest push -to URL ./bin")
	}
	var err error
	if o.Client, err = connect(to); err != nil {
		return err
	}
	defer o.Client.Close()
	line := program.NewProgressLine(stderr)
	o.Progress = line.Show
	report, err := push.Run(ctx, o)
	line.Clear()
	if err == nil || report != nil {
		if werr := writePush(stdout, report, asJSON, verbose); werr != nil {
			return errors.Join(err, werr)
		}
	}
	if errors.Is(err, inquest.ErrUnauthorized) || errors.Is(err, inquest.ErrForbidden) {
		return fmt.Errorf("%w: %w", program.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	return pushed(report)
}

func writePush(w io.Writer, r *push.Report, asJSON, verbose bool) error {
	if !asJSON {
		return r.Write(w, settings.Colours(w), verbose)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// pushed is the error of a push of which files are not stored.
func pushed(r *push.Report) error {
	refused, failed, of := r.Failures()
	switch {
	case failed > 0:
		return fmt.Errorf("%d of %d files are not stored; push again to go on", refused+failed, of)
	case refused > 0:
		return fmt.Errorf("%d of %d files: %w", refused, of, program.ErrRefused)
	}
	return nil
}
