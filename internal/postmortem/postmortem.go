// Package postmortem asks a collector about processes that died and brings
// their cores here: `inquest crashes`, `inquest core` and `inquest snapshot`
// are this package with flags. It knows the collector by its API alone.
package postmortem

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
)

// Crash is a crash as the collector has it.
type Crash struct {
	inquest.Crash
	Group     string `json:"group"`
	TextBytes int64  `json:"text_bytes,omitempty"`
	CoreGone  string `json:"core_gone,omitempty"` // why its core is not there any more
}

// Group is crashes that are alike.
type Group struct {
	ID      string          `json:"id"`
	Service string          `json:"service"`
	Class   string          `json:"class"`
	Message string          `json:"message,omitempty"`
	Frames  []inquest.Frame `json:"frames,omitempty"`
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Count   int64           `json:"count"`
	Records int             `json:"records"`
	Cores   int             `json:"cores"`
	Newest  string          `json:"newest,omitempty"` // crash
}

// Core is a core as the collector has it.
type Core struct {
	inquest.Core
	Service  string    `json:"service"`
	Instance string    `json:"instance,omitempty"`
	Group    string    `json:"group"`
	At       time.Time `json:"at"`
	Pinned   bool      `json:"pinned,omitempty"`
}

// Query says which crashes are asked for; the zero value is all of them.
type Query struct {
	Service string
	Group   string
	Limit   int // 0: as the collector likes
}

func (q *Query) params() url.Values {
	p := url.Values{}
	if q.Service != "" {
		p.Set("service", q.Service)
	}
	if q.Group != "" {
		p.Set("group", q.Group)
	}
	return p
}

// Groups asks for groups, those met last first. Errors of this and of the
// other questions are those of remote.Client.Do.
func Groups(ctx context.Context, c *remote.Client, q Query) ([]Group, error) {
	p := q.params()
	p.Set("by", "group")
	p.Set("limit", "1000")
	var list struct{ Values []Group }
	return list.Values, c.GetJSON(ctx, "/api/v1/crashes", p, &list)
}

// Crashes asks for crashes, the newest first.
func Crashes(ctx context.Context, c *remote.Client, q Query) ([]Crash, error) {
	var out []Crash
	p := q.params()
	p.Set("limit", "1000")
	for {
		var page struct {
			Values []Crash
			Next   string
		}
		if err := c.GetJSON(ctx, "/api/v1/crashes", p, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Values...)
		if q.Limit > 0 && len(out) >= q.Limit {
			return out[:q.Limit], nil
		}
		if page.Next == "" {
			return out, nil
		}
		p.Set("after", page.Next)
	}
}

// OneCrash asks for a crash by its id.
func OneCrash(ctx context.Context, c *remote.Client, id string) (*Crash, error) {
	crash := &Crash{}
	return crash, c.GetJSON(ctx, "/api/v1/crashes/"+url.PathEscape(id), nil, crash)
}

// Text asks for what a process wrote while it died.
func Text(ctx context.Context, c *remote.Client, id string) ([]byte, error) {
	return c.Get(ctx, "/api/v1/crashes/"+url.PathEscape(id)+"/text", nil)
}

// Cores asks for cores, those of the newest crashes first.
func Cores(ctx context.Context, c *remote.Client, q Query) ([]Core, error) {
	var list struct{ Values []Core }
	if err := c.GetJSON(ctx, "/api/v1/cores", q.params(), &list); err != nil {
		return nil, err
	}
	return list.Values, nil
}

// FindCore asks for the core whose id, or whose crash's id, begins so.
// ErrNotFound, or ErrInvalid if several do.
func FindCore(ctx context.Context, c *remote.Client, id string) (*Core, error) {
	cores, err := Cores(ctx, c, Query{})
	if err != nil {
		return nil, err
	}
	var found *Core
	for i := range cores {
		if id == "" || !strings.HasPrefix(cores[i].ID, id) && !strings.HasPrefix(cores[i].Crash, id) {
			continue
		}
		if found != nil {
			return nil, inquest.Errorf(inquest.ErrInvalid, "several cores begin with %q: give more of the id", id)
		}
		found = &cores[i]
	}
	if found == nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "the collector has no core %q; inquest core ls lists them", id)
	}
	return found, nil
}

// Analysis asks for what is found out about a core.
func Analysis(ctx context.Context, c *remote.Client, id string) (*inquest.CoreAnalysis, error) {
	a := &inquest.CoreAnalysis{}
	return a, c.GetJSON(ctx, corePath(id)+"/goroutines", nil, a)
}

// Pin keeps a core from being deleted, or lets it go.
func Pin(ctx context.Context, c *remote.Client, id string, pinned bool) error {
	method := http.MethodPut
	if !pinned {
		method = http.MethodDelete
	}
	return call(ctx, c, method, corePath(id)+"/pin", nil, nil)
}

// Delete deletes a core.
func Delete(ctx context.Context, c *remote.Client, id string) error {
	return call(ctx, c, http.MethodDelete, corePath(id), nil, nil)
}

func corePath(id string) string { return "/api/v1/cores/" + url.PathEscape(id) }

// call makes a request with a body, if it is not nil, and decodes the answer,
// if into is not nil.
func call(ctx context.Context, c *remote.Client, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.Base().String()+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read as far as it is wanted
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "the answer to %s is not ours (is %s a collector?): %w", path, c.Base(), err)
	}
	return nil
}

func callJSON(ctx context.Context, c *remote.Client, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return call(ctx, c, http.MethodPost, path, raw, into)
}
