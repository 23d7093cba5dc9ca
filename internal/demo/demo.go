// Package demo runs the small fleet of real services behind collector -demo:
// it builds package fleet in two releases with the go command it finds,
// starts some processes of each and stops them all again. Without a go
// command the running program is started again to act as the services.
//
// It knows nothing of profiles; what is to be scraped is told by Targets. All
// its processes end with the process that started them, whatever ends that.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/goinquest/inquest/internal/demo/fleet"
)

// The variables that make a program act as a service of the demo; see Act.
const (
	envService = "INQUEST_DEMO_SERVICE"
	envRelease = "INQUEST_DEMO_RELEASE"
)

// instances says how many processes of each release of a service run.
var instances = map[string]int{fleet.Checkout: 1, fleet.Catalog: 2, fleet.Search: 1}

// Act runs the service the environment names, for a program that was started
// by Start in place of a built service. acted is false if it names none.
func Act() (acted bool, err error) {
	service := os.Getenv(envService)
	if service == "" {
		return false, nil
	}
	return true, fleet.Main(service, os.Getenv(envRelease), os.Stdin, os.Stdout)
}

// Options configure Start.
type Options struct {
	Dir    string                           // where sources and programs are written; must exist, the caller removes it after Stop
	Say    func(format string, args ...any) // told what happens, a line each; nil: nobody
	Logger *slog.Logger
}

// Target is one running service.
type Target struct {
	Service  string
	Release  string
	Instance string // host:port
	URL      string // base URL, without /debug/pprof
}

// Fleet is the running services. Make one with Start, end it with Stop.
type Fleet struct {
	o         Options
	children  *children
	processes []*process
}

// Start builds and starts the services, which takes some seconds, and returns
// once all of them listen. When ctx ends first, nothing is left running.
func Start(ctx context.Context, o Options) (*Fleet, error) {
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o, children: newChildren(o.Logger)}
	command, err := f.build(ctx)
	if err == nil {
		err = f.start(ctx, command)
	}
	if err != nil {
		f.Stop()
		return nil, fmt.Errorf("start the demo's services: %w", err)
	}
	return f, nil
}

// Targets lists the running services.
func (f *Fleet) Targets() []Target {
	var out []Target
	for _, p := range f.processes {
		out = append(out, Target{p.service, p.release, strings.TrimPrefix(p.url, "http://"), p.url})
	}
	return out
}

// Stop ends all services and waits until they are gone.
func (f *Fleet) Stop() { f.children.stop() }

// command makes the command that is one service of one release.
type command func(service, release string) *exec.Cmd

// build decides how services are run: from programs built here if that is
// possible, else by the running program itself.
func (f *Fleet) build(ctx context.Context) (command, error) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		f.o.Say("no go command found: this program acts as the services itself, told apart by their release labels only")
		return itself()
	}
	began := time.Now()
	bin, err := f.compile(ctx, goTool)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		f.o.Say("building the services failed: this program acts as them itself, told apart by their release labels only\n  %v", err)
		return itself()
	}
	f.o.Say("built %d services × %d releases in %.1f s", len(fleet.Services), len(fleet.Releases), time.Since(began).Seconds())
	return func(service, release string) *exec.Cmd {
		return exec.Command(filepath.Join(bin, release, executable(service)))
	}, nil
}

func itself() (command, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return func(service, release string) *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Args[0] = os.Args[0]
		cmd.Env = append(os.Environ(), envService+"="+service, envRelease+"="+release)
		return cmd
	}, nil
}

// start starts every process, waits for their addresses and then tells each
// of them about the others.
func (f *Fleet) start(ctx context.Context, command command) error {
	for _, release := range fleet.Releases {
		for _, service := range fleet.Services {
			for range instances[service] {
				p, err := f.children.start(service, release, command(service, release))
				if err != nil {
					return fmt.Errorf("%s %s: %w", service, release, err)
				}
				f.processes = append(f.processes, p)
			}
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 20*time.Second, errors.New("not listening after 20 s"))
	defer cancel()
	var wait errgroup.Group
	for _, p := range f.processes {
		wait.Go(func() error { return p.listening(ctx) })
	}
	if err := wait.Wait(); err != nil {
		return err
	}
	peers := make(fleet.Peers)
	for _, p := range f.processes {
		peers[p.service] = append(peers[p.service], p.url)
	}
	for _, p := range f.processes {
		if err := p.tell(peers); err != nil {
			return err
		}
	}
	f.o.Say("started %d processes: %s", len(f.processes), f.summary())
	return nil
}

// summary counts the processes by service and release.
func (f *Fleet) summary() string {
	var parts []string
	for _, service := range fleet.Services {
		for _, release := range fleet.Releases {
			parts = append(parts, fmt.Sprintf("%d× %s %s", instances[service], service, release))
		}
	}
	return strings.Join(parts, ", ")
}
