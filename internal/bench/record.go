package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/google/pprof/profile"
)

// recorder collects CPU profiles of the collector at work, for the compiler. A
// nil one collects nothing.
type recorder struct {
	profiles []*profile.Profile
}

// recordSeconds is how long one of them is taken.
const recordSeconds = 3

// follow takes one profile after the other of the collector at url until stop
// is called.
func (r *recorder) follow(ctx context.Context, url string) (stop func() error) {
	if r == nil {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			p, err := fetch(ctx, url)
			if ctx.Err() != nil {
				ended <- nil
				return
			}
			if err != nil {
				ended <- err
				return
			}
			r.profiles = append(r.profiles, p)
		}
	}()
	return func() error {
		cancel()
		return <-ended
	}
}

func fetch(ctx context.Context, url string) (*profile.Profile, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", url, recordSeconds), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("profile of the collector: %s", resp.Status)
	}
	return profile.Parse(resp.Body)
}

// add takes a profile from a file.
func (r *recorder) add(file string) error {
	if r == nil {
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.profiles = append(r.profiles, p)
	return nil
}

// write merges all of them into a file.
func (r *recorder) write(file string) error {
	p, err := profile.Merge(r.profiles)
	if err != nil {
		return err
	}
	// The compiler needs no addresses, mappings or labels.
	for _, s := range p.Sample {
		s.Label, s.NumLabel, s.NumUnit = nil, nil, nil
	}
	for _, l := range p.Location {
		l.Mapping = nil
	}
	p.Mapping = nil
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := p.Compact().Write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
