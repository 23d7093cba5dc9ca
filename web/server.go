package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/ingest"
	"github.com/goinquest/inquest/query"
	"github.com/goinquest/inquest/store"
)

// Options configure a Server. The rooms are required; the
// zero value of everything else works.
type Options struct {
	Store   *store.Store
	Ingest  *ingest.Ingest
	Fleet   *ingest.Fleet
	Query   *query.Engine
	Crashes *ingest.Crashes
	// Analyses finds out what stored cores tell.
	Analyses *ingest.Analyses
	// Binaries keeps what was built.
	Binaries *ingest.Binaries
	// Vulnerabilities, if not nil, lists the known ones of a build's modules: nil
	// if it knows none at all.
	Vulnerabilities func(*inquest.Build) []inquest.Vulnerability

	Logger   *slog.Logger
	Now      func() time.Time
	Registry *prometheus.Registry // what /metrics shows; the server's own metrics go there too. nil: one of its own

	Version  string // of the program, for GET /api/v1/version and the pages
	Revision string

	Listen string   // address as configured ("127.0.0.1:7070"); its host is an allowed Host
	Hosts  []string // further host names the collector is reached by, without port
	Tokens []Token  // none: everybody may do everything (see CheckExposure)

	TLSCertFile string // PEM; both or none. Read again by Reload
	TLSKeyFile  string

	MaxBodyBytes    int64         // one received body; default 32 MiB
	BodyMemoryBytes int64         // all bodies being received together; default 128 MiB
	MaxConnections  int           // open at once, more wait to be accepted; default 16,384
	BodyTimeout     time.Duration // to receive one body; default 1 min
	QueryTimeout    time.Duration // one query; default 1 min
}

// withDefaults fills in what was left zero.
func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Version == "" {
		o.Version = "(devel)"
	}
	if o.MaxBodyBytes <= 0 {
		o.MaxBodyBytes = 32 << 20
	}
	if o.BodyMemoryBytes <= 0 {
		o.BodyMemoryBytes = 128 << 20
	}
	o.BodyMemoryBytes = max(o.BodyMemoryBytes, o.MaxBodyBytes)
	if o.MaxConnections <= 0 {
		o.MaxConnections = 16 << 10
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = time.Minute
	}
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = time.Minute
	}
	return o
}

// Server serves the collector's HTTP. Make it with New; Handler works at once,
// Start and Stop serve a listener.
type Server struct {
	o      Options
	echo   *echo.Echo
	table  []route
	auth   *auth
	guard  *guard
	bodies *bodies
	certs  *certs // nil without TLS
	mt     *metrics
	log    *slog.Logger

	coreReads coreReads

	// stopping ends when Stop begins: whoever waits for something that may
	// never come (long polls, commands) gives up then.
	stopping context.Context
	stop     context.CancelFunc

	mu     sync.Mutex
	server *http.Server  // nil until Start
	served chan error    // receives what Serve returned
	ended  chan struct{} // closed when the serving goroutine is at its end
}

// New makes a Server. It fails on tokens, hosts or TLS files that cannot work.
func New(o Options) (*Server, error) {
	o = o.withDefaults()
	s := &Server{o: o, log: o.Logger, bodies: newBodies(o)}
	var err error
	if s.auth, err = newAuth(o); err != nil {
		return nil, err
	}
	if s.guard, err = newGuard(o); err != nil {
		return nil, err
	}
	if s.certs, err = newCerts(o); err != nil {
		return nil, err
	}
	if s.mt, err = newMetrics(o.Registry); err != nil {
		return nil, err
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.table = append(s.apiRoutes(), s.pageRoutes()...)
	if s.echo, err = s.newEcho(); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler is the whole of what the collector serves.
func (s *Server) Handler() http.Handler { return s.echo }

// Start serves ln in the background until Stop; the listener then belongs to
// the server. With TLS files it speaks TLS 1.2 or newer on it.
func (s *Server) Start(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return errors.New("web: server is already started")
	}
	srv := &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      5 * time.Minute, // longer than anything here takes; ends readers that do not read
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ln = newConnections(ln, s.o.MaxConnections, s.log)
	serve := func() error { return srv.Serve(ln) }
	if s.certs != nil {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certs.get}
		serve = func() error { return srv.ServeTLS(ln, "", "") }
	}
	s.server, s.served, s.ended = srv, make(chan error, 1), make(chan struct{})
	go func() {
		defer close(s.ended)
		err := serve()
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		s.served <- err
		close(s.served)
	}()
	return nil
}

// Done receives the error that ended serving (nil after Stop) and is then
// closed. It is nil before Start.
func (s *Server) Done() <-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// Stop takes no new requests, ends long polls at once, lets the running
// requests finish until ctx ends and then cuts them off. It is not an error if
// the server was never started.
func (s *Server) Stop(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	srv, ended := s.server, s.ended
	s.mu.Unlock()
	if srv == nil {
		return nil
	}
	defer func() { <-ended }()
	if err := srv.Shutdown(ctx); err != nil {
		if cerr := srv.Close(); cerr != nil {
			return fmt.Errorf("stop serving: %w", cerr)
		}
		return fmt.Errorf("stop serving: requests were cut off: %w", err)
	}
	return nil
}

// SetTokens replaces the tokens by those of a changed configuration and ends
// all logins. With an error the old ones stay. The caller has asked
// CheckExposure before.
func (s *Server) SetTokens(tokens []Token) error { return s.auth.set(tokens) }

// Reload reads the TLS files again. On an error the old certificate stays in
// use.
func (s *Server) Reload() error {
	if s.certs == nil {
		return nil
	}
	return s.certs.load()
}
