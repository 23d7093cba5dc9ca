package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// localKey marks the context of a request that LocalClient makes.
type localKey struct{}

// LocalClient returns a client whose requests, whatever host they name, go to
// this server's handler without a network and with every right: for parts of
// the same process, as the agent the collector hosts. Bodies stream both ways
// and a request ends when its context does.
func (s *Server) LocalClient() *http.Client {
	return &http.Client{Transport: localTransport{s.Handler()}}
}

type localTransport struct{ handler http.Handler }

// RoundTrip runs the handler in a goroutine of its own, which ends when the
// request's context does, its body is closed, or the answer is complete.
func (t localTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(context.WithValue(r.Context(), localKey{}, true))
	in := r.Clone(ctx)
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.RequestURI = in.URL.RequestURI()
	in.RemoteAddr = "127.0.0.1:0"
	if in.Host == "" {
		in.Host = in.URL.Host
	}
	pr, pw := io.Pipe()
	w := &localWriter{header: http.Header{}, pipe: pw, ready: make(chan struct{})}
	unhook := context.AfterFunc(ctx, func() { pr.CloseWithError(context.Cause(ctx)) })
	go func() {
		defer unhook()
		w.serve(t.handler, in)
	}()
	select {
	case <-w.ready:
	case <-ctx.Done():
		cancel()
		return nil, r.Context().Err()
	}
	return &http.Response{
		Status: strconv.Itoa(w.status) + " " + http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: &localBody{pr, cancel}, ContentLength: -1, Request: r,
	}, nil
}

var errCut = errors.New("web: the handler cut the answer off")

// localWriter is the handler's side of an answer.
type localWriter struct {
	header http.Header
	pipe   *io.PipeWriter

	once   sync.Once
	ready  chan struct{} // closed once status and sent are set
	status int
	sent   http.Header
}

// serve runs the handler to its end.
func (w *localWriter) serve(h http.Handler, r *http.Request) {
	defer func() { _ = r.Body.Close() }()
	defer func() {
		// The handler answers panics itself; what comes here is its way of
		// cutting the connection.
		if v := recover(); v != nil {
			w.WriteHeader(http.StatusInternalServerError)
			w.pipe.CloseWithError(errCut)
		}
	}()
	h.ServeHTTP(w, r)
	w.WriteHeader(http.StatusOK)
	_ = w.pipe.Close() // a pipe's Close never fails
}

func (w *localWriter) Header() http.Header { return w.header }

func (w *localWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	})
}

func (w *localWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(b)
}

// Flush has nothing to do: what is written is read at once.
func (w *localWriter) Flush() { w.WriteHeader(http.StatusOK) }

// localBody is the client's side; closing it ends the request.
type localBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *localBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
