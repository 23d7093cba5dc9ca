package web_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goinquest/inquest/web"
)

// TestConnectionsAreBounded: beyond the bound a connection gets its answer when
// another one has ended, and the server stops all the same.
func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, web.Options{MaxConnections: 2})
	dial := func() net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		return c
	}
	answer := func(c net.Conn) error {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	first, second := dial(), dial()
	for _, c := range []net.Conn{first, second} {
		if err := answer(c); err != nil {
			t.Fatal(err)
		}
	}
	third := dial()
	if err := third.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if answer(third) == nil {
		t.Error("a third connection was answered")
	}
	first.Close()
	if err := third.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := answer(third); err != nil {
		t.Errorf("the third connection is not answered after the first has ended: %v", err)
	}
	dial() // waits while the server stops
	if err := w.server.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
