// Command collector is the server of Inquest: it receives, stores and shows
// profiles of a fleet of Go services, and can host an agent in its own
// process. This package wires the rooms together and does nothing else.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump/analysis"
	"github.com/goinquest/inquest/internal/demo"
	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/sandbox"
)

func main() {
	sandbox.Main(analysis.Stage()) // in a child that looks at a core
	// A process that -demo started in place of a service; see internal/demo.
	if acted, err := demo.Act(); acted {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(program.ExitFailure)
		}
		return
	}
	program.Main("collector", run)
}

// run is the whole program. It returns when ctx has ended and everything has
// stopped, or when the collector cannot start or go on.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "token":
			return runToken(args[1:], stdout)
		case "check":
			return runCheck(ctx, args[1:], stdout, stderr)
		case "backup":
			return runBackup(ctx, args[1:], stdout, stderr)
		case "restore":
			return runRestore(ctx, args[1:], stdout, stderr)
		}
	}
	o, done, err := parse(args, os.Environ(), stdout)
	if done || err != nil {
		return err
	}
	if o.Demo {
		return runDemo(ctx, o, stdout, stderr)
	}
	return runCollector(ctx, o, stdout, stderr, nil)
}

// runCollector serves until ctx ends. started, if not nil, is called once the
// collector serves; what it returns is called when everything has stopped.
func runCollector(ctx context.Context, o *options, stdout, stderr io.Writer, started func(context.Context, *collector) (stop func())) error {
	log, level := o.Log.Logger(stderr)
	for _, w := range o.set.Warnings() {
		log.Warn(w)
	}
	program.CollectGarbage(64 << 20)
	if program.SoftLimit(o.budget.soft) {
		log.Debug("soft memory limit set", inquest.LogBytes, o.budget.soft, "budget", o.budget.total)
	}
	hangup := make(chan os.Signal, 1) // from now on, so that none is missed before it serves
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	c, err := open(ctx, o, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "collector: serving %s, data in %s\n", c.url(), o.Data)
	stop := func() {}
	if started != nil {
		stop = started(ctx, c)
	}
	err = c.serve(ctx, level, hangup)
	if serr := c.stop(); err == nil {
		err = serr
	}
	stop()
	return err
}
