package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/inventory"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/internal/vulndb"
)

// runBuilds shows which builds a collector knows.
func runBuilds(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var to remote.Options
	var q inventory.Query
	var asJSON bool
	var ids []string
	vulns := ""
	s := settings.New("inquest builds", "inquest builds shows which builds a collector knows: of which services they are, what they are built from, and whether "+
		"their code is stored (dwarf: with debug information; names: functions and lines). With an ID, or its beginning, it shows all of one build.")
	s.Arguments(&ids, "[ID]", 1)
	defineCollector(s, &to, "scope read")
	s.Group("Which")
	s.String(&q.Service, "service", "", "builds of the service with this `NAME`")
	s.String(&q.Module, "module", "", "builds that have the module with this `PATH` in them")
	s.String(&q.ModuleBelow, "module-below", "", "builds with a module of an older version than `PATH@VERSION`, as golang.org/x/net@v0.38.0")
	s.String(&q.GoBelow, "go-below", "", "builds by an older Go than `VERSION`, as 1.25")
	s.Bool(&q.Dirty, "dirty", false, "builds from a tree with changes that were not committed")
	s.String(&vulns, "vulns", "", "builds with modules that vulnerabilities in this `FILE` affect: entries in the OSV format, in a file, a zip archive or a directory, as vuln.go.dev publishes them").Path = true
	s.Group("Output")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if len(ids) > 0 {
		q.ID = ids[0]
	}
	if vulns != "" {
		var err error
		if q.Vulnerabilities, err = vulndb.Read(vulns); err != nil {
			return settings.Errorf("flag -vulns: %w", err)
		}
	}
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	builds, err := inventory.Ask(ctx, c, q)
	if errors.Is(err, inquest.ErrInvalid) {
		return settings.Errorf("%w", err)
	}
	if err != nil {
		return err
	}
	switch {
	case asJSON:
		enc := json.NewEncoder(stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Values []inventory.Build `json:"values"`
		}{builds})
	case q.Vulnerabilities != nil && len(builds) == 0:
		_, err := fmt.Fprintf(stdout, "no build is affected by the vulnerabilities in %s, which has %d\n", vulns, q.Vulnerabilities.Entries())
		return err
	case q.ID != "":
		return inventory.WriteOne(stdout, &builds[0], time.Now())
	}
	return inventory.Write(stdout, builds, time.Now())
}
