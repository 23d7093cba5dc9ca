// Package fleet is the services of the demo: a small shop that does real work
// under load it makes itself. checkout's customers order things; for every
// order it asks catalog what there is and search what is like it.
//
// Releases differ as they do in life. v2 of catalog compiles a regular
// expression anew for every cheap item it looks at, which costs CPU; v2 of checkout
// never forgets abandoned carts (up to a bound), which costs memory.
//
// The package uses the standard library only, so that its files can be built
// anywhere with nothing but Go.
package fleet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"
)

// The names of the services.
const (
	Checkout = "checkout"
	Catalog  = "catalog"
	Search   = "search"
)

// Services lists the services.
var Services = []string{Checkout, Catalog, Search}

// Releases lists the releases, oldest first.
var Releases = []string{"v1", "v2"}

// Peers are the base URLs of the services one process may call.
type Peers map[string][]string

// Main runs one service on a loopback port of its choice until in ends. It
// writes its base URL as one line to out, then expects one line of JSON from
// in: its Peers. Nothing else is read; the end of in is the end of whoever
// started the process.
func Main(service, release string, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	mux := http.NewServeMux()
	start, err := handle(mux, service, release)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	// Often enough to see the demo's contention, seldom enough to cost nothing.
	runtime.SetMutexProfileFraction(5)
	runtime.SetBlockProfileRate(int(50 * time.Microsecond))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go server.Serve(ln)
	defer server.Close()

	fmt.Fprintf(out, "http://%s\n", ln.Addr())
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return nil // whoever started us is gone already
	}
	var peers Peers
	if err := json.Unmarshal(line, &peers); err != nil {
		return fmt.Errorf("read peers: %w", err)
	}
	start(peers)
	_, err = io.Copy(io.Discard, lines)
	return err
}

// handle gives mux the paths of a service. start begins what the service does
// of its own accord.
func handle(mux *http.ServeMux, service, release string) (start func(Peers), err error) {
	start = func(Peers) {}
	switch service {
	case Checkout:
		c := newCheckout(release)
		mux.HandleFunc("/order", c.serveOrder)
		start = func(p Peers) { go c.customers(p) }
	case Catalog:
		mux.Handle("/items", newCatalog(release))
	case Search:
		mux.Handle("/similar", newSearch())
	default:
		return nil, fmt.Errorf("no service %q", service)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	return start, nil
}
