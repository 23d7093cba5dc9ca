package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/goinquest/inquest/internal/postmortem"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
)

// runCrashes shows what died.
func runCrashes(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var to remote.Options
	var q postmortem.Query
	var each, text, asJSON bool
	var ids []string
	s := settings.New("inquest crashes", "inquest crashes shows which processes died: in groups of those that are alike, with -each or -group one by one. With an ID it shows all that is known of one.")
	s.Arguments(&ids, "[ID]", 1)
	defineCollector(s, &to, "scope read")
	s.Group("Which")
	s.String(&q.Service, "service", "", "crashes of the service with this `NAME`")
	s.String(&q.Group, "group", "", "crashes of the group with this `ID`, one by one")
	s.Bool(&each, "each", false, "list crashes one by one")
	s.Int(&q.Limit, "limit", 100, 1, 100_000, "list this `NUMBER` of crashes at most")
	s.Group("Output")
	s.Bool(&text, "text", false, "of one crash, write what the process wrote while it died")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if text && len(ids) == 0 {
		return settings.Errorf("flag -text: of which crash? give its ID")
	}
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	switch {
	case text:
		return writeText(ctx, c, ids[0], stdout)
	case len(ids) > 0:
		crash, err := postmortem.OneCrash(ctx, c, ids[0])
		if err != nil {
			return err
		}
		return write(stdout, asJSON, crash, func() error { return postmortem.WriteCrash(stdout, crash, time.Now()) })
	case each || q.Group != "":
		crashes, err := postmortem.Crashes(ctx, c, q)
		if err != nil {
			return err
		}
		return write(stdout, asJSON, values(crashes), func() error { return postmortem.WriteCrashes(stdout, crashes, time.Now()) })
	}
	groups, err := postmortem.Groups(ctx, c, q)
	if err != nil {
		return err
	}
	return write(stdout, asJSON, values(groups), func() error { return postmortem.WriteGroups(stdout, groups, time.Now()) })
}

func writeText(ctx context.Context, c *remote.Client, id string, stdout io.Writer) error {
	raw, err := postmortem.Text(ctx, c, id)
	if err != nil {
		return err
	}
	_, err = stdout.Write(raw)
	return err
}

// values is a list as the API has them.
func values[T any](list []T) any {
	if list == nil {
		list = []T{}
	}
	return struct {
		Values []T `json:"values"`
	}{list}
}

// write writes v as JSON, or what people read.
func write(w io.Writer, asJSON bool, v any, plain func() error) error {
	if !asJSON {
		return plain()
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
