package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/internal/settings"
)

// kernelLog is where a handler's errors can be seen: the kernel starts it with
// nothing to write to.
const kernelLog = "/dev/kmsg"

// runCoreHelper is what the kernel or an agent starts, and returns the exit
// code.
func runCoreHelper(command string, args []string) int {
	var err error
	switch command {
	case corepattern.CommandTrial:
		corepattern.Die()
	case corepattern.CommandPipe:
		if err = corepattern.Pipe(args, os.Stdin); err != nil {
			os.WriteFile(kernelLog, fmt.Appendf(nil, "inquest-agent: %v\n", err), 0)
		}
	case corepattern.CommandGuardian:
		if len(args) != 1 {
			err = settings.Errorf("%s is started by the agent itself", command)
		} else {
			err = corepattern.Guardian(args[0], os.Stdin)
		}
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "agent: %v\n", err)
		return 1
	}
	return 0
}

// coresDir defines the setting for the directory that the agent and the kernel
// meet in.
func coresDir(s *settings.Set, dir *string) {
	s.String(dir, "cores-dir", corepattern.DefaultDir, "`DIRECTORY` where the kernel finds the agent, and where is kept what the host had before").Path = true
}

// runRestoreCores undoes what an agent that was killed has left.
func runRestoreCores(_ context.Context, args []string, stdout io.Writer) error {
	var dir string
	s := settings.New("agent restore-cores", "agent restore-cores gives the host back the core pattern that an agent which was killed has left changed. It does nothing beside one that lives.")
	s.Group("Cores")
	coresDir(s, &dir)
	if done, err := s.Parse(args, os.Environ(), stdout); done || err != nil {
		return err
	}
	did, err := corepattern.Restore(dir)
	if err != nil {
		return err
	}
	text := "there is nothing to restore"
	if did {
		text = "the old core pattern is back"
	}
	_, err = fmt.Fprintln(stdout, text)
	return err
}
