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

// dial connects to the agent and says hello. For a crash text it returns where
// to write it: a pipe that goes along with the first line. A socket would be full
// after some hundred of the small writes the runtime makes; a pipe takes as much
// as it is large, whether or not the agent finds the time to read.
func dial(o Options, stream string, pid int) (conn *net.UnixConn, pipe *os.File, err error) {
	conn, err = net.DialUnix("unix", nil, &net.UnixAddr{Name: o.Socket, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	line, err := json.Marshal(hello{stream, pid, o.Service, o.Release, runtime.Version()})
	if err == nil {
		err = conn.SetWriteDeadline(time.Now().Add(helloTimeout))
	}
	line = append([]byte(helloPrefix), append(line, '\n')...)
	switch {
	case err != nil:
	case stream == streamCrash:
		pipe, err = sendPipe(conn, line)
	default:
		_, err = conn.Write(line)
	}
	if err != nil {
		_ = conn.Close() // the error that counts is above
		return nil, nil, err
	}
	return conn, pipe, conn.SetWriteDeadline(time.Time{})
}

// hasTraceback reports whether the user has chosen a level.
func hasTraceback() bool {
	_, ok := os.LookupEnv("GOTRACEBACK")
	return ok
}
