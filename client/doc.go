// Package client makes a Go program tell the Inquest agent of its host how it
// dies. For most programs one line is all:
//
//	import _ "github.com/goinquest/inquest/client/crash"
//
// Importing this package itself changes nothing; see Mirror and CaptureStderr
// for doing it by hand.
//
// The agent is reached at a unix socket. While there is none nothing happens
// but an attempt to connect every half minute, and a crash is written to
// standard error as ever. What it costs while the program lives is one
// connection and one parked goroutine. As for every program that waits for the
// network, the runtime does not notice then when all other goroutines are
// asleep for ever.
//
// # Environment
//
//	INQUEST_CRASH_SOCKET  where the agent listens, default /run/inquest/crash.sock; @name is an abstract socket; off turns it off
//	INQUEST_TRACEBACK     as GOTRACEBACK, for programs whose GOTRACEBACK is not set: single, all, system, crash; keep leaves it alone
//	OTEL_SERVICE_NAME, SERVICE_NAME, INQUEST_RELEASE
//	                      what the program is called, and in which release, where the agent does not know better
package client
