package query

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
	"github.com/goinquest/inquest/store"
)

// Profile writes what r selects as one pprof body (gzip): all columns of the
// kind, added up as google/pprof's merge does, with the type asked for as the
// default. Instants are added up too (Agg "" and "sum" are the same here);
// "last" and "max" choose profiles as in other answers, "avg" and Rate are
// refused. ErrNotFound if nothing is selected.
func (e *Engine) Profile(ctx context.Context, r Request, w io.Writer) error {
	if err := sumsOnly(r); err != nil {
		return err
	}
	var body []byte
	err := e.readType(ctx, r, need{}, func(s *selection) error {
		p, err := e.merged(ctx, s, r)
		if err != nil {
			return err
		}
		setDefaultType(p, s.typ)
		body = e.gzip(p)
		return nil
	})
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// merging merges what parts add up to. These are added up at the same time, and
// merged in order: the same question has the same answer.
type merging struct {
	*profile.Merger
	s    *selection
	held atomic.Int64 // bytes reserved for the Merger
	// Closed when a part may be merged, and when it has been.
	begins, ends map[*store.Part]chan struct{}
}

func newMerging(s *selection) *merging {
	m := &merging{Merger: profile.NewMerger(), s: s, begins: map[*store.Part]chan struct{}{}, ends: map[*store.Part]chan struct{}{}}
	next := make(chan struct{})
	close(next)
	for _, u := range s.units {
		if m.ends[u.part] == nil {
			m.begins[u.part] = next
			next = make(chan struct{})
			m.ends[u.part] = next
		}
	}
	return m
}

// part adds the picked profiles of the units of a part.
func (m *merging) part(ctx context.Context, units []*unit) error {
	part := units[0].part
	for _, u := range units {
		for _, sub := range u.split(u.all()) {
			q := store.SumQuery{Section: u.section, Rows: u.flags(sub.at)}
			if len(sub.keep) > 0 {
				q.Keep = sub.keep.keep
			}
			err := part.Sum(ctx, q, func(p *profile.Profile) error {
				if err := m.wait(ctx, part); err != nil {
					return err
				}
				if err := m.Add(p); err != nil {
					return err
				}
				return m.s.mem.upTo(&m.held, m.Bytes())
			})
			if err != nil {
				return err
			}
		}
	}
	if err := m.wait(ctx, part); err != nil {
		return err
	}
	close(m.ends[part])
	return nil
}

// wait waits until the parts before are merged.
func (m *merging) wait(ctx context.Context, part *store.Part) error {
	select {
	case <-m.begins[part]:
		return nil
	default:
	}
	// Those waited for may wait for memory, which nobody of the query gives back.
	m.s.mem.work(-1)
	defer m.s.mem.work(1)
	select {
	case <-m.begins[part]:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gzip is p as a body.
func (e *Engine) gzip(p *profile.Profile) []byte {
	enc, _ := e.encoders.Get().(*profile.Encoder)
	if enc == nil {
		enc = &profile.Encoder{}
	}
	defer e.encoders.Put(enc)
	return enc.AppendGzip(nil, p)
}

// setDefaultType makes t the type that pprof shows first.
func setDefaultType(p *profile.Profile, t inquest.Type) {
	for _, st := range p.SampleTypes {
		if inquest.TypeOf(t.Kind, p.String(st.Type), p.String(st.Unit)).Name == t.Name {
			p.DefaultSampleType = st.Type
		}
	}
}

// ProfileByID writes one stored profile as it came in (pprof, gzip): the
// samples, values, labels, addresses and lines are those of the sender.
// ErrNotFound if there is none of that id, ErrInvalid if it is no id.
func (e *Engine) ProfileByID(ctx context.Context, id string, w io.Writer) error {
	body, err := e.stored(ctx, id)
	if err != nil {
		return err
	}
	_, err = w.Write(body)
	return err
}

// stored is the body of one stored profile.
func (e *Engine) stored(ctx context.Context, id string) (body []byte, err error) {
	err = e.budget.run(ctx, func(ctx context.Context, mem *reservation) error {
		v, section, row, err := e.store.Find(ctx, id)
		if err != nil {
			return err
		}
		defer v.Close()
		part := v.Parts[0]
		all, err := part.Rows(ctx, section)
		if err != nil {
			return err
		}
		rows := make([]bool, len(all.Start))
		rows[row] = true
		return part.Export(ctx, section, rows, func(p *profile.Profile) error {
			body = e.gzip(p)
			return mem.keep(int64(len(body)))
		})
	})
	return body, err
}

// ProfileInfo is one stored profile.
type ProfileInfo struct {
	ID      string            `json:"id"` // for ProfileByID
	Kind    inquest.Kind      `json:"kind"`
	Labels  map[string]string `json:"labels"`  // release resolved
	Process string            `json:"process"` // see inquest.ProfileMeta.ProcessKey
	Start   time.Time         `json:"start"`
	End     time.Time         `json:"end"`
	Samples int               `json:"samples"`
	Total   float64           `json:"total"` // of the type asked for, in its unit; of all samples, whatever their labels
}

// Profiles lists the stored profiles r selects, newest first; limit < 1 lists
// all. Agg and Rate mean nothing here. The coverage is that of all of them.
func (e *Engine) Profiles(ctx context.Context, r Request, limit int) ([]ProfileInfo, Coverage, error) {
	r.Agg, r.Rate = "", false
	out, c := []ProfileInfo{}, Coverage{}
	err := e.readType(ctx, r, need{}, func(s *selection) error {
		s.holds()
		n := s.count()
		if limit > 0 {
			n = min(n, int64(limit))
		}
		if err := s.mem.grow(pickedBytes * s.count()); err != nil {
			return err
		}
		if err := s.mem.keep(profileInfoBytes * n); err != nil {
			return err
		}
		for _, p := range cut(s.newest(), limit) {
			out = append(out, p.info())
		}
		c = s.coverage()
		c.Samples = 0 // nobody asked them for their labels
		for _, u := range s.units {
			for _, row := range u.picked {
				c.Samples += int64(u.rows.Samples[row])
			}
		}
		return nil
	})
	return out, c, err
}

// Bytes of memory.
const (
	pickedBytes      = 32      // of a pickedRow in a list
	profileInfoBytes = 2 << 10 // of a ProfileInfo, with its JSON
)

// count is how many rows are picked.
func (s *selection) count() (n int64) {
	for _, u := range s.units {
		n += int64(len(u.picked))
	}
	return n
}

// newest returns the picked rows, newest first.
func (s *selection) newest() []pickedRow {
	var rows []pickedRow
	for _, u := range s.units {
		for _, row := range u.picked {
			rows = append(rows, pickedRow{u, row})
		}
	}
	slices.SortFunc(rows, func(a, b pickedRow) int {
		ar, br := a.u.rows, b.u.rows
		return cmp.Or(
			cmp.Compare(br.Start[b.row], ar.Start[a.row]),
			bytes.Compare(br.Key[b.row][:], ar.Key[a.row][:]),
		)
	})
	return rows
}

func (p pickedRow) info() ProfileInfo {
	r, row := p.u.rows, p.row
	return ProfileInfo{
		ID:      r.ID(int(row)),
		Kind:    p.u.sec.Kind,
		Labels:  p.u.sets[r.LabelSet[row]].labels.Map(),
		Process: r.Processes[r.Process[row]],
		Start:   time.Unix(0, r.Start[row]).UTC(),
		End:     time.Unix(0, r.End[row]).UTC(),
		Samples: int(r.Samples[row]),
		Total:   float64(r.Totals[p.u.column][row]),
	}
}
