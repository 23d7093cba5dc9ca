package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/postmortem"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
)

// coreCommands are what inquest core does.
var coreCommands = []command{
	{settings.Command{Name: "ls", Args: "-to URL [flags]", Summary: "list the cores a collector has"}, runCoreList},
	{settings.Command{Name: "show", Args: "-to URL [flags] ID", Summary: "say what a core tells: why the process died, and its goroutines"}, runCoreShow},
	{settings.Command{Name: "download", Args: "-to URL [flags] ID", Summary: "bring a core here, as a file debuggers open"}, runCoreDownload},
	{settings.Command{Name: "pin", Args: "-to URL ID", Summary: "keep a core from being deleted for its age or for want of space"}, runCorePin},
	{settings.Command{Name: "unpin", Args: "-to URL ID", Summary: "let a core go again"}, runCoreUnpin},
	{settings.Command{Name: "rm", Args: "-to URL ID", Summary: "delete a core"}, runCoreRemove},
	{settings.Command{Name: "push", Args: "-to URL -service NAME [flags] FILE", Summary: "store a core file in a collector"}, runCorePush},
}

// runCore is inquest core with the command that follows.
func runCore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	listed, names := make([]settings.Command, len(coreCommands)), make([]string, len(coreCommands))
	for i, c := range coreCommands {
		if len(args) > 0 && args[0] == c.Name {
			return c.run(ctx, args[1:], stdout, stderr)
		}
		listed[i], names[i] = c.Command, c.Name
	}
	s := settings.New("inquest core", "inquest core works with the cores a collector has: the memory of processes that died, or were copied. They hold secrets, so most of it needs scope core.", listed...)
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	return settings.Errorf("which command? there is %s; inquest core -help says more", strings.Join(names, ", "))
}

func runCoreList(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var to remote.Options
	var q postmortem.Query
	var asJSON bool
	s := settings.New("inquest core ls", "inquest core ls lists the cores a collector has, those of the newest crashes first.")
	defineCollector(s, &to, "scope read")
	s.Group("Which")
	s.String(&q.Service, "service", "", "cores of the service with this `NAME`")
	s.String(&q.Group, "group", "", "cores of the group of crashes with this `ID`")
	s.Group("Output")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	cores, err := postmortem.Cores(ctx, c, q)
	if err != nil {
		return err
	}
	return write(stdout, asJSON, values(cores), func() error { return postmortem.WriteCores(stdout, cores, time.Now()) })
}

func runCoreShow(ctx context.Context, args []string, stdout, _ io.Writer) error {
	var goroutines, asJSON bool
	return onCore(ctx, args, stdout, "inquest core show", "inquest core show says what the collector found out about a core: why the process died, and what its goroutines did. ID is that of the core or of its crash, or the beginning of it.",
		"scope read", func(s *settings.Set) {
			s.Group("Output")
			s.Bool(&goroutines, "goroutines", false, "with all goroutines, those with the same stack together")
			s.Bool(&asJSON, "json", false, "write JSON, with every goroutine")
		}, func(c *remote.Client, core *postmortem.Core) error {
			found, err := postmortem.Analysis(ctx, c, core.ID)
			if err != nil {
				return err
			}
			return write(stdout, asJSON, found, func() error { return postmortem.WriteAnalysis(stdout, found, goroutines) })
		})
}

func runCoreDownload(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var name string
	return onCore(ctx, args, stdout, "inquest core download", "inquest core download brings a core here: an ELF file with holes that only its owner can read. "+
		"Every part is verified, and when it was cut off, the same command goes on from there. ID is that of the core or of its crash, or the beginning of it.",
		"scopes read and core", func(s *settings.Set) {
			s.Group("Output")
			s.String(&name, "o", "", "write it to this `FILE`; without it core-ID in this directory").Path = true
		}, func(c *remote.Client, core *postmortem.Core) error {
			if name == "" {
				name = "core-" + core.ID[:12]
			}
			line := program.NewProgressLine(stderr)
			got, err := postmortem.Download(ctx, c, core.ID, name, line.Show)
			line.Clear()
			if err != nil {
				return err
			}
			fmt.Fprintf(stdout, "%s is a %s core of %s, %s, of which %s of memory are here\n", name, got.Tier, core.Service, settings.SizeText(got.VirtualBytes), settings.SizeText(got.MemoryBytes))
			for _, m := range got.Missing {
				fmt.Fprintf(stdout, "missing: %s\n", m)
			}
			return nil
		})
}

func runCorePin(ctx context.Context, args []string, stdout, _ io.Writer) error {
	return onCore(ctx, args, stdout, "inquest core pin", "inquest core pin keeps a core from being deleted for its age or for want of space.", "scopes read and core", nil,
		func(c *remote.Client, core *postmortem.Core) error { return postmortem.Pin(ctx, c, core.ID, true) })
}

func runCoreUnpin(ctx context.Context, args []string, stdout, _ io.Writer) error {
	return onCore(ctx, args, stdout, "inquest core unpin", "inquest core unpin lets a core go again that was pinned.", "scopes read and core", nil,
		func(c *remote.Client, core *postmortem.Core) error { return postmortem.Pin(ctx, c, core.ID, false) })
}

func runCoreRemove(ctx context.Context, args []string, stdout, _ io.Writer) error {
	return onCore(ctx, args, stdout, "inquest core rm", "inquest core rm deletes a core. What is known of the crash stays.", "scopes read and core", nil,
		func(c *remote.Client, core *postmortem.Core) error { return postmortem.Delete(ctx, c, core.ID) })
}

// onCore runs a command on one core.
func onCore(ctx context.Context, args []string, stdout io.Writer, name, summary, scopes string, define func(*settings.Set), do func(*remote.Client, *postmortem.Core) error) error {
	var to remote.Options
	var ids []string
	s := settings.New(name, summary)
	s.Arguments(&ids, "ID", 1)
	defineCollector(s, &to, scopes)
	if define != nil {
		define(s)
	}
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if len(ids) == 0 {
		return settings.Errorf("which core? give its ID; inquest core ls lists them")
	}
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	core, err := postmortem.FindCore(ctx, c, ids[0])
	if err != nil {
		return err
	}
	return do(c, core)
}

func runCorePush(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var to remote.Options
	var p postmortem.Push
	var files []string
	var asJSON bool
	at := &moment{t: &p.At}
	s := settings.New("inquest core push", "inquest core push stores a core file of a Go program in a collector, as an agent would. Nothing in it is blanked.")
	s.Arguments(&files, "FILE", 1)
	defineCollector(s, &to, "scope ingest")
	s.Group("Of what")
	s.String(&p.Service, "service", "", "`NAME` of the service; required")
	s.String(&p.Instance, "instance", "", "`NAME` of the instance, as host:port")
	s.Var(at, "at", "`TIME` of death: now, a DURATION ago as -2h, or RFC 3339").Default = "that of the file"
	s.Group("Output")
	s.Bool(&asJSON, "json", false, "write JSON")
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	if at.text == "now" {
		p.At = time.Now()
	}
	if len(files) == 0 || p.Service == "" {
		return settings.Errorf("push what? name a core file and its service, as in inquest core push -to URL -service shop core.123")
	}
	p.File = files[0]
	c, err := connect(to)
	if err != nil {
		return err
	}
	defer c.Close()
	line := program.NewProgressLine(stderr)
	p.Progress = line.Show
	done, err := postmortem.Send(ctx, c, p)
	line.Clear()
	if errors.Is(err, inquest.ErrUnauthorized) || errors.Is(err, inquest.ErrForbidden) {
		return fmt.Errorf("%w: %w", program.ErrRefused, err)
	}
	if err != nil {
		return err
	}
	return write(stdout, asJSON, done, func() error {
		what := fmt.Sprintf("%s sent of it", settings.SizeText(done.Sent))
		if !done.Want.Cores() {
			what = "the collector has enough cores like it and wants no more"
		}
		_, err := fmt.Fprintf(stdout, "core %s: %s\n%s\n", done.Core, what, done.Link)
		return err
	})
}
