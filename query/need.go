package query

import (
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// need is what an answer needs of the rows it is made of. The zero value needs
// single profiles.
type need struct {
	rollups bool          // sums over whole steps of time do
	step    time.Duration // at whose multiples the answer is cut; 0: it is not cut
	by      []string      // labels by which the answer is divided
	tables  bool          // what each function cost is enough, stacks are not needed
	labels  bool          // only which labels there are: those in by, nil: all, none: only the types
}

// storeSelection says what the store is to read for a request: rollups where
// they keep all that the request asks for, else profiles. A request for
// profiles that are not kept any more is refused.
func (s *selection) storeSelection(r Request, n need) (store.Selection, error) {
	st := s.e.store
	want := store.Selection{Window: s.window, Services: s.sel.services(), Symbols: s.e.symbols}
	if n.labels {
		want.Rollups = s.lostLabel(n) == ""
		want.PerProcess = want.Rollups && len(n.by) > 0
		return want, nil
	}
	lost := s.lost(r, n)
	if lost == "" {
		want.Rollups, want.Step, want.Fleet = true, n.step, fleetAnswers(r, n) && len(s.sel) == 0
		return want, nil
	}
	from := st.KnownFrom(want.Services, store.Raw)
	if !s.window.From.Before(from) {
		return want, nil
	}
	return want, inquest.Errorf(inquest.ErrInvalid, "%s known from %s on, as single profiles before that are not kept any more: begin there or later, or ask for less",
		lost, from.Format(time.RFC3339))
}

// fleetAnswers says whether tables of the whole fleet do, if no service is chosen:
// not for rates, which are scaled service by service.
func fleetAnswers(r Request, n need) bool {
	return n.tables && !r.Rate && store.InFleet(inquest.KindOfType(r.Type), r.Type)
}

// lost names what of a request rollups cannot answer; "" if they can.
func (s *selection) lost(r Request, n need) string {
	keeps := s.e.store.RollupKeeps
	for _, m := range s.sel {
		if !keeps(m.Name) {
			return "the label " + m.Name + " is"
		}
	}
	if i := slices.IndexFunc(n.by, func(label string) bool { return !keeps(label) }); i >= 0 {
		return "the label " + n.by[i] + " is"
	}
	switch {
	case r.Agg == AggLast || r.Agg == AggMax:
		return "agg=" + r.Agg + " is"
	case !n.rollups:
		return "single profiles are"
	}
	return ""
}

// lostLabel names a label that a question for labels is about and the rows of
// rollups do not have, or those of digests, which are all that know instances
// but do not have all types; "" if there is none.
func (s *selection) lostLabel(n need) string {
	keeps := func(label string) bool {
		return label == inquest.LabelInstance && len(n.by) > 0 || s.e.store.RollupKeeps(label)
	}
	for _, m := range s.sel {
		if !keeps(m.Name) {
			return m.Name
		}
	}
	if n.by == nil {
		return "all"
	}
	if i := slices.IndexFunc(n.by, func(label string) bool { return !keeps(label) }); i >= 0 {
		return n.by[i]
	}
	return ""
}

// service is that of a row.
func (u *unit) service(row int32) string {
	if u.part.Service != "" {
		return u.part.Service
	}
	return u.sets[u.rows.LabelSet[row]].labels.Get(inquest.LabelService)
}

// processes lists the processes of a row, as indexes into rows.Processes.
func (u *unit) processes(row int32) []uint32 {
	r := u.rows
	if r.ProcessEnds == nil {
		return r.Process[row : row+1]
	}
	from := uint32(0)
	if row > 0 {
		from = r.ProcessEnds[row-1]
	}
	return r.ProcessIDs[from:r.ProcessEnds[row]]
}

// profiles is how many a row stands for.
func (u *unit) profiles(row int32) int64 {
	if u.rows.Profiles == nil {
		return 1
	}
	return int64(u.rows.Profiles[row])
}

// truncated is how many of the row's profiles were.
func (u *unit) truncated(row int32) int64 {
	if u.rows.Truncated != nil {
		return int64(u.rows.Truncated[row])
	}
	return int64(u.rows.Flags[row] & store.FlagTruncated)
}

// observed is the time that the row's profiles observed, in ns.
func (u *unit) observed(row int32) int64 {
	if u.rows.Observed != nil {
		return u.rows.Observed[row]
	}
	return u.rows.End[row] - u.rows.Start[row]
}

// samples is how many stacks the row's profiles have.
func (u *unit) samples(row int32) int64 {
	if u.rows.SampleSum != nil {
		return u.rows.SampleSum[row]
	}
	return int64(u.rows.Samples[row])
}
