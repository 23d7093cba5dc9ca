package client

import (
	"encoding/json"
	"net"
	"os"
	"runtime"
	"time"
)

// What comes over a connection.
const (
	streamCrash  = "crash"  // the crash text, as debug.SetCrashOutput has it
	streamStderr = "stderr" // lines of standard error that may be of a crash
)

// helloPrefix begins the first line of a connection. JSON follows.
const helloPrefix = "inquest/1 "

// hello says who writes. The agent believes the kernel about the process, and
// this about names.
type hello struct {
	Stream  string `json:"stream"`
	PID     int    `json:"pid"`
	Service string `json:"service,omitempty"`
	Release string `json:"release,omitempty"`
	Go      string `json:"go"`
}

// helloTimeout is for an agent that does not read.
const helloTimeout = time.Second

// dial connects to the agent and says hello.
func dial(o Options, stream string, pid int) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: o.Socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(hello{stream, pid, o.Service, o.Release, runtime.Version()})
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(helloTimeout)) // only fails when closed, and so does Write
		_, err = conn.Write(append([]byte(helloPrefix), append(line, '\n')...))
		_ = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // the error that counts is above
		return nil, err
	}
	return conn, nil
}

// hasTraceback reports whether the user has chosen a level.
func hasTraceback() bool {
	_, ok := os.LookupEnv("GOTRACEBACK")
	return ok
}
