package agent_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goinquest/inquest"
	pprofile "github.com/google/pprof/profile"
)

// body makes a small profile of a kind as Go serves it; n is its one value
// (the count, where there are several).
func body(t testing.TB, kind inquest.Kind, n int64) []byte {
	t.Helper()
	fn := &pprofile.Function{ID: 1, Name: "main.work", Filename: "main.go"}
	m := &pprofile.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/bin/x", BuildID: "abcd", HasFunctions: true}
	loc := &pprofile.Location{ID: 1, Mapping: m, Address: 0x401000, Line: []pprofile.Line{{Function: fn, Line: 7}}}
	types := map[inquest.Kind][]*pprofile.ValueType{
		inquest.KindCPU:       {{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		inquest.KindHeap:      {{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"}, {Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}},
		inquest.KindMutex:     {{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
		inquest.KindBlock:     {{Type: "contentions", Unit: "count"}, {Type: "delay", Unit: "nanoseconds"}},
		inquest.KindGoroutine: {{Type: "goroutine", Unit: "count"}},
	}[kind]
	values := make([]int64, len(types))
	for i := range values {
		values[i] = n
		if i%2 == 1 {
			values[i] = 1000 * n
		}
	}
	p := &pprofile.Profile{
		SampleType: types, Function: []*pprofile.Function{fn}, Mapping: []*pprofile.Mapping{m}, Location: []*pprofile.Location{loc},
		Sample: []*pprofile.Sample{{Location: []*pprofile.Location{loc}, Value: values}},
	}
	if kind == inquest.KindCPU {
		p.PeriodType, p.Period = types[1], 10_000_000
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// kindOf is the kind a request asks for.
func kindOf(r *http.Request) inquest.Kind {
	k, err := inquest.ParseKind(path.Base(r.URL.Path))
	if err != nil {
		return inquest.KindOther
	}
	return k
}

// counter is a target whose cumulative profiles grow by 10 with every
// request. It sleeps for the seconds of a CPU profile.
type counter struct {
	t     testing.TB
	total atomic.Int64 // as served last
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := kindOf(r)
	if kind == inquest.KindOther { // another agent of this machine looks for profiles
		http.NotFound(w, r)
		return
	}
	if kind == inquest.KindCPU {
		n, _ := strconv.Atoi(r.URL.Query().Get("seconds")) // 0 fails the test by itself
		time.Sleep(time.Duration(n) * time.Second)
	}
	_, _ = w.Write(body(c.t, kind, c.total.Add(10)))
}

// roundTripper is a network in the test's memory.
type roundTripper func(*http.Request) (*http.Response, error)

func (rt roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return rt(r) }

func answer(r *http.Request, status int, b []byte) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", status, http.StatusText(status)), StatusCode: status, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(b)), ContentLength: int64(len(b)),
	}
}

const (
	second = time.Second
	minute = time.Minute
)
