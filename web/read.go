package web

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/query"
)

const (
	defaultMaxNodes = 8192
	mostNodes       = 1 << 20
	defaultTopRows  = 100
	mostTopRows     = 100_000
	defaultProfiles = 100
	mostProfiles    = 10_000
	mostValues      = 10_000
)

// values is how the API answers lists.
type values[T any] struct {
	Values []T `json:"values"`
}

// list answers a list; an empty one as [], not null.
func list[T any](c echo.Context, vs []T) error {
	if vs == nil {
		vs = []T{}
	}
	return c.JSON(http.StatusOK, values[T]{vs})
}

// with returns the parameters every query takes and more.
func with(more ...string) []string { return append(more, selection...) }

// ask runs a query, within the time one may take, if its parameters are right,
// and answers with what write makes of it. The query's memory is reserved until
// that is done.
func ask[T any](s *Server, c echo.Context, p *params, run func(context.Context) (T, error), write func(T) error) error {
	if err := p.err(); err != nil {
		return err
	}
	held, release := query.Hold(c.Request().Context())
	defer release()
	ctx, cancel := context.WithTimeout(held, s.o.QueryTimeout)
	defer cancel()
	v, err := run(ctx)
	if err != nil {
		return err
	}
	return write(v)
}

// answer runs a query and answers with what it returns.
func answer[T any](s *Server, c echo.Context, p *params, query func(context.Context) (T, error)) error {
	return ask(s, c, p, query, func(v T) error { return c.JSON(http.StatusOK, v) })
}

// answerList is answer for lists.
func answerList[T any](s *Server, c echo.Context, p *params, query func(context.Context) ([]T, error)) error {
	return ask(s, c, p, query, func(vs []T) error { return list(c, vs) })
}

// getProfile answers with pprof: a merged selection, or one stored profile.
func (s *Server) getProfile(c echo.Context) error {
	// go tool pprof adds seconds to any URL when it is run with -seconds.
	p := s.params(c, with("id", "agg", "rate", "seconds")...)
	r := p.request("cpu")
	id := p.text("id")
	if id != "" && (p.text("query") != "" || p.text("type") != "" || p.text("from") != "" || p.text("until") != "") {
		p.fail(inquest.Errorf(inquest.ErrInvalid, "parameter id names one profile: query, type, from and until cannot stand beside it"))
	}
	w := &attachment{c: c, name: r.Type + ".pb.gz"}
	return ask(s, c, p, func(ctx context.Context) (struct{}, error) {
		if id != "" {
			w.name = id + ".pb.gz"
			return struct{}{}, s.o.Query.ProfileByID(ctx, id, w)
		}
		return struct{}{}, s.o.Query.Profile(ctx, r, w)
	}, func(struct{}) error { return nil })
}

// attachment writes a file to download. Until the first byte is written an
// error can still be answered as such.
type attachment struct {
	c     echo.Context
	name  string
	begun bool
}

func (a *attachment) Write(b []byte) (int, error) {
	if !a.begun {
		a.begun = true
		h := a.c.Response().Header()
		h.Set(echo.HeaderContentType, echo.MIMEOctetStream)
		h.Set(echo.HeaderContentDisposition, "attachment; filename="+fileName(a.name))
	}
	return a.c.Response().Write(b)
}

// fileName keeps what is harmless in a file's name.
func fileName(name string) string {
	out := []byte(name)
	for i, ch := range out {
		if !(ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' || ch == '.' || ch == '-' || ch == '_') {
			out[i] = '_'
		}
	}
	return string(out)
}

// profileList is the answer of listProfiles.
type profileList struct {
	Values   []query.ProfileInfo `json:"values"`
	Coverage query.Coverage      `json:"coverage"`
}

// listProfiles answers with single stored profiles, newest first.
func (s *Server) listProfiles(c echo.Context) error {
	p := s.params(c, with("limit")...)
	r, limit := p.request("cpu"), p.number("limit", defaultProfiles, 1, mostProfiles)
	return answer(s, c, p, func(ctx context.Context) (profileList, error) {
		infos, coverage, err := s.o.Query.Profiles(ctx, r, limit)
		if infos == nil {
			infos = []query.ProfileInfo{} // a list in JSON
		}
		return profileList{infos, coverage}, err
	})
}

// getFlameGraph answers with a call tree.
func (s *Server) getFlameGraph(c echo.Context) error {
	p := s.params(c, with("agg", "rate", "max_nodes")...)
	r, nodes := p.request("cpu"), p.number("max_nodes", defaultMaxNodes, 1, mostNodes)
	flame := func(ctx context.Context) (*query.FlameGraph, error) { return s.o.Query.FlameGraph(ctx, r, nodes) }
	return ask(s, c, p, flame, func(f *query.FlameGraph) error {
		c.Response().Header().Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
		return f.WriteJSON(c.Response())
	})
}

// getTop answers with a table.
func (s *Server) getTop(c echo.Context) error {
	p := s.params(c, with("agg", "rate", "by", "limit", "function")...)
	r, by, limit := p.request("cpu"), p.text("by"), p.number("limit", defaultTopRows, 1, mostTopRows)
	r.Function = p.text("function")
	if by == "" {
		by = query.ByFunction
	}
	return answer(s, c, p, func(ctx context.Context) (*query.TopAnswer, error) { return s.o.Query.Top(ctx, r, by, limit) })
}

// getFunctions answers with the functions whose names match.
func (s *Server) getFunctions(c echo.Context) error {
	p := s.params(c, with("agg", "rate", "match", "limit")...)
	r, match, limit := p.request("cpu"), p.text("match"), p.number("limit", defaultTopRows, 1, mostTopRows)
	return answer(s, c, p, func(ctx context.Context) (*query.TopAnswer, error) {
		return s.o.Query.Functions(ctx, r, match, limit)
	})
}

// getDiff answers with two call trees on one skeleton.
func (s *Server) getDiff(c echo.Context) error {
	p := s.params(c, "type", "agg", "rate", "max_nodes", "base.", "head.")
	base, head := p.side("base"), p.side("head")
	nodes := p.number("max_nodes", defaultMaxNodes, 1, mostNodes)
	diff := func(ctx context.Context) (*query.Diff, error) { return s.o.Query.Diff(ctx, base, head, nodes) }
	return ask(s, c, p, diff, func(d *query.Diff) error {
		c.Response().Header().Set(echo.HeaderContentType, echo.MIMEApplicationJSON)
		return d.WriteJSON(c.Response())
	})
}

// getSeries answers with values over time.
func (s *Server) getSeries(c echo.Context) error {
	p := s.params(c, with("agg", "rate", "by", "step", "function")...)
	r, step, by := p.request("cpu"), p.duration("step", 0), p.list("by")
	r.Function = p.text("function")
	return answer(s, c, p, func(ctx context.Context) (*query.SeriesAnswer, error) { return s.o.Query.Series(ctx, r, step, by) })
}

// getLabels answers with the names of labels.
func (s *Server) getLabels(c echo.Context) error {
	p := s.params(c, selection...)
	r := p.request("")
	return answerList(s, c, p, func(ctx context.Context) ([]string, error) { return s.o.Query.LabelNames(ctx, r) })
}

// getLabelValues answers with the values of one label.
func (s *Server) getLabelValues(c echo.Context) error {
	p := s.params(c, with("limit")...)
	r, limit := p.request(""), p.number("limit", mostValues, 1, mostValues)
	return answerList(s, c, p, func(ctx context.Context) ([]string, error) {
		return s.o.Query.LabelValues(ctx, r, pathParam(c, "name"), limit)
	})
}

// getServices answers with what there is of every service.
func (s *Server) getServices(c echo.Context) error {
	p := s.params(c, "from", "until")
	w := p.window()
	return answerList(s, c, p, func(ctx context.Context) ([]query.ServiceInfo, error) { return s.o.Query.Services(ctx, w) })
}

// getReleases answers with the releases of a service, or of all.
func (s *Server) getReleases(c echo.Context) error {
	p := s.params(c, "service", "from", "until")
	r := p.request("")
	if service := p.text("service"); service != "" {
		r.Query = inquest.Labels{{Name: inquest.LabelService, Value: service}}.String()
	}
	return answerList(s, c, p, func(ctx context.Context) ([]string, error) {
		return s.o.Query.LabelValues(ctx, r, inquest.LabelRelease, mostValues)
	})
}

// typeInfo is a type as the API shows it.
type typeInfo struct {
	inquest.Type
	Temporality string `json:"temporality"` // delta or instant
}

// getTypes answers with the types there are.
func (s *Server) getTypes(c echo.Context) error {
	p := s.params(c, "query", "from", "until")
	r := p.request("")
	return answerList(s, c, p, func(ctx context.Context) ([]typeInfo, error) {
		types, err := s.o.Query.Types(ctx, r)
		out := make([]typeInfo, len(types))
		for i, t := range types {
			out[i] = typeInfo{t, t.Temporality.String()}
		}
		return out, err
	})
}
