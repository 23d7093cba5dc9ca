package agent

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"runtime/pprof"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/symbolize"
)

// selfURL stands for the agent's own process; nothing listens there.
var selfURL = &url.URL{Scheme: "http", Host: "self", Path: probePath}

// selfIdentity is what the agent knows of its own process.
type selfIdentity struct {
	id    string
	build *inquest.Build
}

// newSelfIdentity reads what the running executable says of itself; what
// cannot be read stays empty.
func newSelfIdentity() selfIdentity {
	id := selfIdentity{id: host.SelfID()}
	exe, err := os.Executable()
	if err != nil {
		return id
	}
	f, err := os.Open(exe)
	if err != nil {
		return id
	}
	defer func() { _ = f.Close() }() // only read
	if b, err := symbolize.ReadBuild(f); err == nil {
		id.build = b
	}
	return id
}

// selfTransport answers like net/http/pprof, from the runtime of this
// process and over no socket.
type selfTransport struct{}

func (selfTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	var body bytes.Buffer
	name := path.Base(req.URL.Path)
	if name != endpoints[inquest.KindCPU] {
		p := pprof.Lookup(name)
		if p == nil {
			return selfAnswer(req, http.StatusNotFound, []byte("unknown profile"))
		}
		if err := p.WriteTo(&body, 0); err != nil {
			return nil, err
		}
		return selfAnswer(req, http.StatusOK, body.Bytes())
	}
	seconds, err := strconv.Atoi(req.URL.Query().Get("seconds"))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(&body); err != nil {
		return selfAnswer(req, http.StatusInternalServerError, fmt.Appendf(nil, "could not enable CPU profiling: %s", err))
	}
	timer := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-req.Context().Done():
	}
	pprof.StopCPUProfile()
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return selfAnswer(req, http.StatusOK, body.Bytes())
}

func selfAnswer(req *http.Request, status int, body []byte) (*http.Response, error) {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: req,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}, nil
}
