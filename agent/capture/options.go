package capture

import (
	"context"
	"log/slog"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/prometheus/client_golang/prometheus"
)

// Options are what a Capturer needs to work. Sink must be given; every other
// zero value is a default.
type Options struct {
	Sink  Sink
	Agent string // id of the agent, for Crash.Agent
	Host  string // name of this machine, for Crash.Host

	// Target names a process as the agent's discovery knows it; ok is false if
	// it does not. A process that nobody knows is named by its environment,
	// unit or main package, as package host does. It must not block.
	Target func(pid int, process string) (t Target, ok bool)

	// Ask asks the collector what to keep of a death of a build that the policy
	// does not know of, within ctx, which ends after AskTimeout. nil: the local
	// tier counts.
	Ask        func(ctx context.Context, service, build, key string) (inquest.Tier, error)
	AskTimeout time.Duration // default 50 ms

	// Local is the tier where neither a rule nor the policy's default says
	// anything. Default inquest.TierMini. Most bounds whatever the policy says;
	// default inquest.TierFull.
	Local, Most inquest.Tier

	// Blank says which arguments and variables leave the host as they are,
	// besides those that every program has.
	Blank coredump.BlankOptions

	PerKey     Rate          // cores of one place in one service; default 3 at once, one more per 10 minutes
	PerService Rate          // cores of one service; default 10 at once, one more per minute
	Events     Rate          // events of one place in one service told one by one; default 10 at once, one more per 10 s
	Fold       time.Duration // the others are told as one event, this often; default 10 s

	Poll time.Duration // of watched processes, see Capturer.Watch; default 1 s

	RateBytes int64         // of memory copied, a second, over a minute; default 64 MiB; negative: any
	FreeBytes int64         // cores are not taken when the sink has less room; default 256 MiB
	AtOnce    int           // copies at a time; default 2
	Wait      time.Duration // for one's turn, before less is kept; default 2 s
	Hold      time.Duration // a process, before what is not copied is left out; default 60 s
	Stop      time.Duration // a live process for a snapshot; default 250 ms
	MemBytes  int64         // of buffers for copied pages, so that processes go before they are packed; default 16 MiB

	TempDir   string // for cores that were stored packed, while they are looked at; default as os.CreateTemp
	MiniBytes int64  // of memory in a minicore; default as coredump.Select

	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
	Now        func() time.Time      // default time.Now
}

// Target is what the agent knows a process as.
type Target struct {
	Service  string
	Instance string
	Release  string
	Labels   map[string]string
}

// Rate is a token bucket. The zero value stands for a default, a negative
// Burst for no limit.
type Rate struct {
	Burst int           // at once
	Every time.Duration // one more
}

// setDefaults gives what is not set its value.
func (o *Options) setDefaults() {
	standard(&o.AskTimeout, 50*time.Millisecond)
	standard(&o.Local, inquest.TierMini)
	standard(&o.Most, inquest.TierFull)
	standard(&o.Fold, 10*time.Second)
	standard(&o.Poll, time.Second)
	standard(&o.RateBytes, 64<<20)
	standard(&o.FreeBytes, 256<<20)
	standard(&o.AtOnce, 2)
	standard(&o.Wait, 2*time.Second)
	standard(&o.Hold, time.Minute)
	standard(&o.Stop, 250*time.Millisecond)
	standard(&o.MemBytes, 16<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func standard[T comparable](to *T, v T) {
	var zero T
	if *to == zero {
		*to = v
	}
}
