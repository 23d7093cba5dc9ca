package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/fleet"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/settings"
)

// Subject is what the questions are about.
type Subject struct {
	Window   inquest.Window
	Services []string // asked about in turn
	Type     string   // of which values are asked for: "cpu"
}

// Question is one thing people ask a collector. With several requests it
// takes all of them, one after the other, to answer it.
type Question struct {
	Name       string
	PerService bool // asks about one service at a time
	requests   func(service string, s Subject) []request
}

// request is one GET.
type request struct {
	path   string
	params url.Values
}

// of returns a request about a time, of what the selector matches.
func (s Subject) of(path, selector string, w inquest.Window, more ...string) request {
	q := url.Values{"query": {selector}, "type": {s.Type}, "from": {stamp(w.From)}, "until": {stamp(w.Until)}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return request{path, q}
}

// list returns a request for a list, which takes a time alone.
func (s Subject) list(path string) request {
	return request{path, url.Values{"from": {stamp(s.Window.From)}, "until": {stamp(s.Window.Until)}}}
}

// last is the end of the window, of the length d.
func (s Subject) last(d time.Duration) inquest.Window {
	return inquest.Window{From: s.Window.Until.Add(-d), Until: s.Window.Until}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

const (
	flameGraph = "/api/v1/flamegraph"
	wholeFleet = "{}"
)

// byLabel selects what service does, and makes that a question that is only
// answered by single profiles: rollups do not keep the label.
func byLabel(service string) string {
	if service == "" {
		return `{instance!=""}`
	}
	return fmt.Sprintf(`{service=%q, instance!=""}`, service)
}

func bySelf(service string) string { return fmt.Sprintf("{service=%q}", service) }

// Questions is the standard set about a window of the length. withDiff says
// that the collector compares by itself; else two flame graphs stand in for it.
func Questions(window time.Duration, withDiff bool) []Question {
	one := func(name string, perService bool, r func(service string, s Subject) request) Question {
		return Question{name, perService, func(service string, s Subject) []request { return []request{r(service, s)} }}
	}
	list := func(name, path string) Question {
		return one(name, false, func(_ string, s Subject) request { return s.list(path) })
	}
	diff := Question{"diff of two halves, service", true, halves}
	if withDiff {
		diff = one(diff.Name, true, compared)
	}
	var set []Question
	for _, d := range []time.Duration{5 * time.Minute, time.Hour} {
		if d < window {
			name := "flame graph, service, last " + settings.FormatDuration(d)
			set = append(set, one(name, true, func(v string, s Subject) request { return s.of(flameGraph, bySelf(v), s.last(d)) }))
		}
	}
	return append(set,
		one("flame graph, service", true, func(v string, s Subject) request { return s.of(flameGraph, bySelf(v), s.Window) }),
		one("flame graph, service, by a label", true, func(v string, s Subject) request { return s.of(flameGraph, byLabel(v), s.Window) }),
		one("flame graph, fleet", false, func(_ string, s Subject) request { return s.of(flameGraph, wholeFleet, s.Window) }),
		one("flame graph, fleet, by a label", false, func(_ string, s Subject) request { return s.of(flameGraph, byLabel(""), s.Window) }),
		diff,
		one("series by service, fleet", false, func(_ string, s Subject) request {
			return s.of("/api/v1/series", wholeFleet, s.Window, "by", inquest.LabelService)
		}),
		one("top functions, fleet", false, func(_ string, s Subject) request { return s.of("/api/v1/top", wholeFleet, s.Window, "limit", "100") }),
		one("merged pprof, service", true, func(v string, s Subject) request { return s.of("/api/v1/profile", bySelf(v), s.Window) }),
		list("labels", "/api/v1/labels"),
		list("values of a label", "/api/v1/labels/instance/values"),
		list("services", "/api/v1/services"),
		list("types", "/api/v1/types"),
	)
}

// compared asks for the two halves of the window in one request.
func compared(service string, s Subject) request {
	q := url.Values{"type": {s.Type}}
	for i, side := range []string{"base.", "head."} {
		w := s.half(i)
		q.Set(side+"query", bySelf(service))
		q.Set(side+"from", stamp(w.From))
		q.Set(side+"until", stamp(w.Until))
	}
	return request{diffPath, q}
}

// halves asks for each half by itself.
func halves(service string, s Subject) []request {
	return []request{s.of(flameGraph, bySelf(service), s.half(0)), s.of(flameGraph, bySelf(service), s.half(1))}
}

// half is one of the halves of the window, cut at a whole minute.
func (s Subject) half(i int) inquest.Window {
	middle := s.Window.From.Add(s.Window.Duration() / 2).Truncate(time.Minute)
	if !middle.After(s.Window.From) {
		middle = s.Window.From.Add(s.Window.Duration() / 2)
	}
	if i == 0 {
		return inquest.Window{From: s.Window.From, Until: middle}
	}
	return inquest.Window{From: middle, Until: s.Window.Until}
}

const diffPath = "/api/v1/diff"

// HasDiff reports whether the collector compares.
func (c *Client) HasDiff(ctx context.Context) (bool, error) {
	_, err := c.Get(ctx, diffPath, nil)
	var r *remote.Refusal
	if errors.As(err, &r) && r.Status != 0 {
		return r.Status != http.StatusNotFound, nil
	}
	return err == nil, err
}

// Found counts the stored profiles of the simulated fleet that a window has,
// by kind.
func (c *Client) Found(ctx context.Context, w inquest.Window, kinds []string) (map[string]int64, error) {
	found := map[string]int64{}
	for _, kind := range kinds {
		s := Subject{Type: inquest.DefaultType(inquest.Kind(kind))}
		// One step is as long as the window, so there is nothing to it but the count.
		step := strconv.Itoa(int(w.Duration()/time.Second) + 1)
		r := s.of("/api/v1/series", `{service=~"`+fleet.ServicePattern+`"}`, w, "step", step, "agg", "sum")
		var a struct{ Coverage struct{ Profiles int64 } }
		if err := c.GetJSON(ctx, r.path, r.params, &a); err != nil {
			return nil, fmt.Errorf("count the stored profiles: %w", err)
		}
		found[kind] = a.Coverage.Profiles
	}
	return found, nil
}

// coverage is what an answer says of itself, as far as it is reported.
type coverage struct {
	Coverage struct {
		Profiles   int64
		Resolution string
	}
}

// read reads the coverage of an answer; nothing of a list or a pprof body.
func (c *coverage) read(answer []byte) { _ = json.Unmarshal(answer, c) }
