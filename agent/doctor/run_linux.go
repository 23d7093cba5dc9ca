package doctor

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corepattern"
	"github.com/goinquest/inquest/agent/host"
)

// scanRounds bounds how often the host is looked at until all executables are
// known.
const scanRounds = 50

// processes are the Go processes of the host.
func processes(ctx context.Context) (*host.Snapshot, error) {
	s := host.NewScanner(host.Options{})
	var snap *host.Snapshot
	for range scanRounds {
		var err error
		if snap, err = s.Scan(ctx, nil); err != nil {
			return nil, err
		}
		if snap.Deferred == 0 {
			break
		}
	}
	return snap, nil
}

// Limits are the RLIMIT_CORE of the Go processes of this host.
func Limits(ctx context.Context) ([]Limit, error) {
	snap, err := processes(ctx)
	if err != nil {
		return nil, err
	}
	out := []Limit{}
	for _, p := range snap.Processes {
		if n, err := coreLimit(p.PID); err == nil {
			out = append(out, Limit{p.PID, p.Name, n})
		}
	}
	return out, nil
}

func coreLimit(pid int) (uint64, error) {
	var r unix.Rlimit
	err := unix.Prlimit(pid, unix.RLIMIT_CORE, nil, &r)
	return r.Cur, err
}

// Run looks at the host and its Go processes. It is an error of kind
// ErrNotFound if there is none that Options.Only names.
func Run(ctx context.Context, o Options) (*Report, error) {
	plan, err := corepattern.Look(corepattern.Options{Mode: o.Mode, Dir: o.Dir, Cores: o.Cores})
	if err != nil {
		return nil, err
	}
	snap, err := processes(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{Mode: modeInForce(plan), Processes: []Process{}}
	r.Host = lookAtHost(o, plan, r.Mode)
	for i := range snap.Processes {
		p := &snap.Processes[i]
		if p.PID == os.Getpid() || o.Only != "" && o.Only != p.Name && o.Only != strconv.Itoa(p.PID) {
			continue
		}
		findings := lookAtProcess(o, p, plan, r.Mode)
		if host.Alive(p.ID) { // else the findings are of nothing
			r.Processes = append(r.Processes, Process{p.PID, p.Name, p.Exe, findings})
		}
	}
	if o.Only != "" && len(r.Processes) == 0 {
		for _, u := range snap.Unreadable {
			if strconv.Itoa(u.PID) == o.Only || u.Comm == o.Only {
				return nil, inquest.Errorf(inquest.ErrForbidden, "process %d (%s): %s", u.PID, u.Comm, u.Reason)
			}
		}
		return nil, inquest.Errorf(inquest.ErrNotFound, "no Go process of this host is %q, neither by number nor by service; agent doctor without it lists them", o.Only)
	}
	if o.Only == "" && len(snap.Unreadable) > 0 {
		u := snap.Unreadable[0]
		r.Host = append(r.Host, Finding{"processes", Unknown,
			fmt.Sprintf("%d may not be looked at, as %d (%s): %s", len(snap.Unreadable), u.PID, u.Comm, u.Reason), "run this as root"})
	}
	return r, nil
}
