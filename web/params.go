package web

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

// params reads the query parameters of a request. It remembers the first
// error, which err returns.
type params struct {
	values url.Values
	now    time.Time
	first  error
}

// selection are the parameters that every query takes.
var selection = []string{"query", "type", "from", "until"}

// params reads the request's query string, in which only the known names may
// stand; a name that ends in "." is a prefix. The first name that is not known
// is an error.
func (s *Server) params(c echo.Context, known ...string) *params {
	p := &params{now: s.o.Now()}
	var err error
	if p.values, err = url.ParseQuery(c.Request().URL.RawQuery); err != nil {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "the query string cannot be read: %v", err))
	}
	names := make([]string, 0, len(p.values))
	for name := range p.values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		prefix, _, dotted := strings.Cut(name, ".")
		switch {
		case dotted && slices.Contains(known, prefix+"."), slices.Contains(known, name):
			if len(p.values[name]) > 1 {
				p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %q is given %d times; give it once", name, len(p.values[name])))
			}
		default:
			p.fail(unknownParam(name, known))
		}
	}
	return p
}

// unknownParam is the error about a parameter that does not exist here.
func unknownParam(name string, known []string) error {
	near := nearest(name, known, 1)
	msg := "known here are " + strings.Join(known, ", ")
	if len(known) == 0 {
		msg = "none is known here"
	}
	detail := map[string]any{"parameter": name}
	if len(near) > 0 {
		msg = "did you mean " + near[0] + "? " + strings.ToUpper(msg[:1]) + msg[1:]
		detail["near"] = near[0]
	}
	return &detailError{inquest.Errorf(inquest.ErrInvalid, "unknown parameter %.100q; %s", name, msg), detail}
}

func (p *params) fail(err error) {
	if p.first == nil {
		p.first = err
	}
}

// err is the first error of all parameters read.
func (p *params) err() error { return p.first }

// text is a parameter as it stands.
func (p *params) text(name string) string { return p.values.Get(name) }

// list is a parameter of words separated by commas.
func (p *params) list(name string) []string {
	var out []string
	for w := range strings.SplitSeq(p.values.Get(name), ",") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out
}

// number is a whole number from least to most, or def if it is not given.
func (p *params) number(name string, def, least, most int) int {
	v := p.values.Get(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %s=%.40q: want a whole number from %d to %d", name, v, least, most))
		return def
	}
	return n
}

// boolean is true or false (1 and 0 do as well), false if not given.
func (p *params) boolean(name string) bool {
	v := p.values.Get(name)
	if v == "" {
		return false
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %s=%.40q: want true or false", name, v))
	}
	return b
}

// duration is a length of time in seconds or as 1m30s, def if not given. It is
// not negative.
func (p *params) duration(name string, def time.Duration) time.Duration {
	v := p.values.Get(name)
	if v == "" {
		return def
	}
	d, err := parseDuration(v)
	if err != nil || d < 0 {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %s=%.40q: want a length of time, as 15s, 5m, 1h, 2d or a number of seconds", name, v))
		return def
	}
	return d
}

// time is a moment, def if not given.
func (p *params) time(name string, def time.Time) time.Time {
	v := p.values.Get(name)
	if v == "" {
		return def
	}
	t, err := parseTime(v, p.now)
	if err != nil {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter %s=%.60q: %v", name, v, err))
		return def
	}
	return t
}

// window is from and until, by default the last hour.
func (p *params) window() inquest.Window {
	until := p.time("until", p.now)
	w := inquest.Window{From: p.time("from", until.Add(-time.Hour)).UTC(), Until: until.UTC()}
	if p.first == nil && !w.From.Before(w.Until) {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "the window is empty: from %s is not before until %s",
			w.From.Format(time.RFC3339Nano), w.Until.Format(time.RFC3339Nano)))
	}
	return w
}

// request is what every query takes; without a type it is of type def.
func (p *params) request(def string) query.Request {
	r := query.Request{Query: p.text("query"), Type: p.text("type"), Window: p.window(), Agg: p.text("agg"), Rate: p.boolean("rate")}
	if r.Type == "" {
		r.Type = def
	}
	return r
}

// side is one side of a difference: its own query, from and until, and the
// type, agg and rate of both.
func (p *params) side(name string) query.Request {
	for key := range p.values {
		if field, ok := strings.CutPrefix(key, name+"."); ok && !slices.Contains([]string{"query", "from", "until", "release"}, field) {
			p.fail(unknownParam(key, []string{name + ".query", name + ".from", name + ".until", name + ".release"}))
		}
	}
	until := p.time(name+".until", p.now)
	r := query.Request{
		Query: p.text(name + ".query"), Release: p.text(name + ".release"), Type: p.text("type"), Agg: p.text("agg"), Rate: p.boolean("rate"),
		Window: inquest.Window{From: p.time(name+".from", until.Add(-time.Hour)).UTC(), Until: until.UTC()},
	}
	if r.Type == "" {
		r.Type = "cpu"
	}
	return r
}

// parseTime reads a moment: RFC 3339, unix seconds (with a fraction if
// wanted), "now", or relative to now: "-1h", "-2d", "now-90s".
func parseTime(v string, now time.Time) (time.Time, error) {
	switch {
	case v == "now":
		return now, nil
	case strings.HasPrefix(v, "now-"), strings.HasPrefix(v, "now+"):
		v = v[3:]
		if d, err := parseDuration(v[1:]); err == nil && d >= 0 {
			return now.Add(sign(v) * d), nil
		}
	case strings.HasPrefix(v, "-"), strings.HasPrefix(v, "+"):
		if d, err := parseUnits(v[1:]); err == nil {
			return now.Add(sign(v) * d), nil
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t.UTC(), nil
	}
	if t, ok := parseUnix(v); ok {
		return t, nil
	}
	return time.Time{}, inquest.Errorf(inquest.ErrInvalid, "want a time: 2026-11-21T15:04:05Z, unix seconds, now, or relative as -1h")
}

func sign(v string) time.Duration {
	if v[0] == '-' {
		return -1
	}
	return 1
}

// parseUnix reads unix seconds with up to nine decimals, exactly, from 1970 to
// about 2200.
func parseUnix(v string) (time.Time, bool) {
	whole, frac, dot := strings.Cut(v, ".")
	if !digits(whole) || len(whole) > 10 || dot && (!digits(frac) || len(frac) > 9) {
		return time.Time{}, false
	}
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	ns, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	return time.Unix(sec, ns).UTC(), err == nil
}

func digits(v string) bool {
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
	}
	return v != ""
}

// parseDuration reads seconds ("90", "1.5") or units ("1d12h").
func parseDuration(v string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(v, 64); err == nil {
		if f = f * float64(time.Second); !(math.Abs(f) < 1<<62) {
			return 0, inquest.Errorf(inquest.ErrInvalid, "duration %.40q is out of range", v)
		}
		return time.Duration(math.Round(f)), nil
	}
	return parseUnits(v)
}

// parseUnits reads a duration as Go spells it, with w and d before the rest
// ("2d", "1w3d", "1d12h").
func parseUnits(v string) (time.Duration, error) {
	var sum time.Duration
	rest := v
	for _, u := range []struct {
		unit string
		d    time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		n, after, ok := strings.Cut(rest, u.unit)
		if !ok || !digits(n) || len(n) > 5 {
			continue
		}
		k, err := strconv.Atoi(n)
		if err != nil {
			return 0, err
		}
		sum, rest = sum+time.Duration(k)*u.d, after
	}
	if rest == "" && v != "" {
		return sum, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 {
		return 0, inquest.Errorf(inquest.ErrInvalid, "duration %.40q: want 15s, 5m, 1h or 2d", v)
	}
	return sum + d, nil
}
