package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

const (
	upstreamsAtOnce   = 2
	maxWants          = 10_000
	maxRedirects      = 5
	upstreamDial      = 10 * time.Second
	upstreamAnswer    = 2 * time.Minute // a server may have to unpack what it is asked for
	shortestGNUBuild  = 8               // hex digits
	longestGNUBuild   = 128
	upstreamIdleConns = 30 * time.Second
)

// want is what became of asking upstreams for an id.
type want struct {
	at    time.Time // when they were asked last
	under bool      // they are being asked
}

// parseUpstream checks the base URL of a debuginfod server.
func parseUpstream(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "debuginfod server %.200q: want a URL such as https://debuginfod.example.org/", base)
	}
	return u, nil
}

// upstreamClient is a client that a server can neither send elsewhere than to
// other servers of the same scheme nor keep waiting for ever.
func upstreamClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: upstreamDial}).DialContext,
			TLSHandshakeTimeout:   upstreamDial,
			ResponseHeaderTimeout: upstreamAnswer,
			IdleConnTimeout:       upstreamIdleConns,
			MaxConnsPerHost:       upstreamsAtOnce,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || r.URL.Scheme != via[0].URL.Scheme {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// isGNUBuildID says whether an id can be one that debuginfod servers know.
func isGNUBuildID(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && len(id) >= shortestGNUBuild && len(id) <= longestGNUBuild && id == strings.ToLower(id)
}

// Want has upstreams asked for a build in the background, unless that was done
// a while ago.
func (b *Binaries) Want(id string) {
	if len(b.upstreams) == 0 || !isGNUBuildID(id) {
		return
	}
	now := b.o.Now()
	b.mu.Lock()
	w, ok := b.wants[id]
	if ok && (w.under || now.Sub(w.at) < b.o.UpstreamPause) || !b.roomToWant(now) {
		b.mu.Unlock()
		return
	}
	b.wants[id] = want{at: now, under: true}
	b.mu.Unlock()
	b.background(func() {
		b.ask(id)
		b.mu.Lock()
		b.wants[id] = want{at: b.o.Now()}
		b.mu.Unlock()
	})
}

// Fetching says whether upstreams are being asked for a build.
func (b *Binaries) Fetching(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.wants[id].under
}

// roomToWant makes room for one more id; b.mu is held.
func (b *Binaries) roomToWant(now time.Time) bool {
	if len(b.wants) < maxWants {
		return true
	}
	for id, w := range b.wants {
		if !w.under && now.Sub(w.at) >= b.o.UpstreamPause {
			delete(b.wants, id)
		}
	}
	return len(b.wants) < maxWants
}

// ask asks one upstream after the other for a program, and for its debug
// information if that has none inside.
func (b *Binaries) ask(id string) {
	select {
	case b.asking <- struct{}{}:
		defer func() { <-b.asking }()
	case <-b.ctx.Done():
		return
	}
	for _, up := range b.upstreams {
		for _, what := range [...]string{"executable", "debuginfo"} {
			if list := b.o.Store.Binaries(id); len(list) > 0 && list[0].DWARF && b.has(id) {
				return
			}
			err := b.fetch(up, id, what)
			switch {
			case b.ctx.Err() != nil:
				return
			case errors.Is(err, inquest.ErrNotFound):
				b.o.Logger.Debug("debuginfod server has it not", inquest.LogBuildID, id, "what", what, "server", up.Host)
			case err != nil:
				b.o.Logger.Warn("binary not fetched", inquest.LogBuildID, id, "what", what, "server", up.Host, inquest.LogErr, err)
			}
		}
	}
}

// fetch stores what an upstream has of an id.
func (b *Binaries) fetch(up *url.URL, id, what string) error {
	ctx, cancel := context.WithTimeout(b.ctx, b.o.UpstreamTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, up.JoinPath("buildid", id, what).String(), nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "inquest-collector")
	resp, err := b.client.Do(r)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // its URL may have a password in it
		}
		return fmt.Errorf("ask: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return inquest.Errorf(inquest.ErrNotFound, "it is not there")
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("ask: answered %s", resp.Status)
	case resp.ContentLength > b.o.UpstreamBytes:
		return inquest.Errorf(inquest.ErrTooLarge, "it has %d bytes, %d are the most taken", resp.ContentLength, b.o.UpstreamBytes)
	}
	stored, err := b.o.Store.PutBinary(ctx, resp.Body, b.o.UpstreamBytes, store.Provenance{ID: id, By: up.Host, Source: store.SourceDebuginfod}, b.identify)
	if err != nil {
		return err
	}
	b.came(stored)
	return nil
}
