// Command inquest is the engineer's side of Inquest: it asks a collector and
// sends to it, over the API alone. Every command is one file of this package,
// which wires flags to the rooms that do the work and does nothing else.
package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
)

func main() { program.Main("inquest", run) }

// command is one thing the program does.
type command struct {
	settings.Command
	run program.Run
}

// commands in the order the help lists them.
var commands = []command{
	{settings.Command{Name: "push", Args: "-to URL [flags] FILE…", Summary: "store executables, debug information and source in a collector"}, runPush},
	{settings.Command{Name: "builds", Args: "-to URL [flags] [ID]", Summary: "show which builds a collector knows, and which are affected by vulnerabilities"}, runBuilds},
	{settings.Command{Name: "crashes", Args: "-to URL [flags] [ID]", Summary: "show which processes died, and of what"}, runCrashes},
	{settings.Command{Name: "core", Args: "ls|download|pin|unpin|rm|push -to URL [flags]", Summary: "list, download, keep, delete and send cores"}, runCore},
	{settings.Command{Name: "snapshot", Args: "-to URL [flags] SERVICE/INSTANCE", Summary: "copy the memory of a process that goes on"}, runSnapshot},
	{settings.Command{Name: "load", Args: "-to URL [flags]", Summary: "send a simulated fleet to a collector and measure what it takes"}, runLoad},
}

// run is the whole program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:len(args):len(args)], "-help") // help load is load -help
	}
	listed := make([]settings.Command, len(commands))
	names := make([]string, len(commands))
	for i, c := range commands {
		if len(args) > 0 && args[0] == c.Name {
			return c.run(ctx, args[1:], stdout, stderr)
		}
		listed[i], names[i] = c.Command, c.Name
	}
	s := settings.New("inquest", "inquest works with a collector from the command line.", listed...)
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	return settings.Errorf("which command? there is %s; inquest -help says more", strings.Join(names, ", "))
}
