package agent

import (
	"context"

	"github.com/goinquest/inquest"
)

// lookRounds bounds how often Look goes on after a round that left something
// for the next.
const lookRounds = 20

// Look finds what an agent with these options would scrape, and what not and
// why, and scrapes nothing: ports are asked for /debug/pprof/ and no more. Of
// the options only Config, Host, Version, Logger, Now and TargetTransport
// count. The result is as that of Agent.Targets.
func Look(ctx context.Context, o Options) ([]inquest.Target, error) {
	a, err := newAgent(o)
	if err != nil {
		return nil, err
	}
	a.looking = true
	d, err := a.newDiscovery(a.config)
	if err != nil {
		return nil, err
	}
	d.hosts = newHostFinder(&d.conf.Host, a.transport(nil), nil)
	ctx, d.cancel = context.WithCancel(ctx)
	defer d.stop()
	if err := d.watchFiles(ctx, a); err != nil {
		return nil, err
	}
	d.settling = true // targets of a round that is not the last are kept
	for _, j := range d.jobs {
		if len(j.conf.FileSDConfigs) > 0 {
			sleep(ctx, settleTime)
			break
		}
	}
	for range lookRounds {
		d.round(ctx, a)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !d.hosts.left() {
			break
		}
	}
	return a.Targets(), nil
}

// left says that the newest round left executables unread, or may have left
// ports unasked.
func (f *hostFinder) left() bool {
	return f.snap != nil && (f.snap.Deferred > 0 || f.exhausted)
}
