package client

import (
	"os"
	"strings"
	"time"
)

// DefaultSocket is where an agent listens unless told otherwise.
const DefaultSocket = "/run/inquest/crash.sock"

// Options say where the agent is and what the program is called. What is zero
// comes from the environment, else from the defaults.
type Options struct {
	Socket  string // of the agent, "@name" for an abstract one
	Service string
	Release string
	// Traceback is the level of debug.SetTraceback for a program whose
	// environment has no GOTRACEBACK; "keep" leaves it alone. Default "crash":
	// all goroutines are written, and a core is dumped where the system lets it.
	Traceback string
	// RetryMax is the longest pause between two attempts to connect, default
	// 30 s. The first is a quarter of a second.
	RetryMax time.Duration
}

func (o Options) withDefaults() Options {
	o.Socket = first(o.Socket, os.Getenv("INQUEST_CRASH_SOCKET"), DefaultSocket)
	o.Service = first(o.Service, os.Getenv("OTEL_SERVICE_NAME"), os.Getenv("SERVICE_NAME"))
	o.Release = first(o.Release, os.Getenv("INQUEST_RELEASE"))
	o.Traceback = first(o.Traceback, os.Getenv("INQUEST_TRACEBACK"), "crash")
	if o.RetryMax <= 0 {
		o.RetryMax = 30 * time.Second
	}
	return o
}

// off reports whether no agent is to be told.
func (o *Options) off() bool { return strings.EqualFold(o.Socket, "off") }

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
