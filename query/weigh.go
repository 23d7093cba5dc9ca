package query

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// How values of different times are added up.
//
// A profile belongs to the window that contains its Start; nothing is cut at
// the edges, so windows add up. It stands for its hold, which depends on the
// others of its process and kind in the selection where the sender did not
// state it: see store.Holds.
//
// A value is weighed by 1 (sum, last, max), by hold ÷ window (avg) or by its
// service's present ÷ observed ÷ window (rate).

// holds fills the hold of every picked row.
func (s *selection) holds() {
	unclear := make([]bool, s.procs) // the neighbours decide
	need := false
	for _, u := range s.units {
		u.hold = make([]int64, len(u.picked))
		if u.sec.Resolution != store.Raw { // settled when they were made
			for i, row := range u.picked {
				u.hold[i] = u.rows.Hold[row]
			}
			continue
		}
		deltas := u.hasDeltas()
		for i, row := range u.picked {
			observed := u.rows.End[row] - u.rows.Start[row]
			var clear bool
			if u.hold[i], clear = store.StatedHold(u.rows.Hold[row], observed, deltas && observed == 0); !clear {
				unclear[u.proc[u.rows.Process[row]]] = true
				need = true
			}
		}
	}
	if need {
		s.holdsOf(unclear)
	}
}

// hasDeltas says whether the section has a column of amounts over time, so
// that a profile of it that observed nothing is a baseline.
func (u *unit) hasDeltas() bool {
	return slices.ContainsFunc(u.sec.Types, func(t inquest.Type) bool { return t.Temporality == inquest.Delta })
}

// holdsOf decides the holds that depend on neighbours, of some processes.
func (s *selection) holdsOf(procs []bool) {
	var all []store.Held
	var holds []*int64
	for _, u := range s.units {
		if u.sec.Resolution != store.Raw {
			continue
		}
		deltas := u.hasDeltas()
		for i, row := range u.picked {
			p := u.proc[u.rows.Process[row]]
			if !procs[p] {
				continue
			}
			start, end := u.rows.Start[row], u.rows.End[row]
			all = append(all, store.Held{
				Process: p, Kind: u.sec.Kind, Start: start, End: end, Stated: u.rows.Hold[row], Baseline: deltas && start == end,
			})
			holds = append(holds, &u.hold[i])
		}
	}
	for i, hold := range store.Holds(all) {
		*holds[i] = hold
	}
}

// choose keeps, for last and max, one picked row per process. It comes after
// holds and before coverage and weigh.
func (s *selection) choose() {
	if s.agg != AggLast && s.agg != AggMax {
		return
	}
	best := make([]pickedRow, s.procs)
	for _, u := range s.units {
		for _, row := range u.picked {
			b := &best[u.proc[u.rows.Process[row]]]
			if c := (pickedRow{u, row}); b.u == nil || c.better(*b, s.agg) {
				*b = c
			}
		}
	}
	for _, u := range s.units {
		n := 0
		for i, row := range u.picked {
			if best[u.proc[u.rows.Process[row]]] == (pickedRow{u, row}) {
				u.picked[n], u.hold[n] = row, u.hold[i]
				n++
			}
		}
		u.picked, u.hold = u.picked[:n], u.hold[:n]
	}
	s.units = slices.DeleteFunc(s.units, func(u *unit) bool { return len(u.picked) == 0 })
}

// pickedRow is one row of one unit.
type pickedRow struct {
	u   *unit
	row int32
}

// total is what the row's samples that count add up to.
func (a pickedRow) total() int64 {
	if a.u.kept != nil {
		return a.u.kept[a.row]
	}
	return a.u.rows.Totals[a.u.column][a.row]
}

// better says whether a rather than b stands for their process: by its total
// (max only), then the newer, then the larger key.
func (a pickedRow) better(b pickedRow, agg string) bool {
	ar, br := a.u.rows, b.u.rows
	if agg == AggMax {
		if d := cmp.Compare(a.total(), b.total()); d != 0 {
			return d > 0
		}
	}
	return cmp.Or(
		cmp.Compare(ar.Start[a.row], br.Start[b.row]),
		cmp.Compare(ar.End[a.row], br.End[b.row]),
		bytes.Compare(ar.Key[a.row][:], br.Key[b.row][:]),
	) > 0
}

// weigh decides what values are multiplied by, holds being known. Rates are
// scaled per service, and in a table by release per service and release: what
// releases are compared by must not depend on how the others were profiled.
func (s *selection) weigh(by string) {
	seconds := s.window.Duration().Seconds()
	switch s.agg {
	case AggAvg:
		for _, u := range s.units {
			if u.sec.Resolution != store.Raw { // the column is of value × hold
				u.weight = 1 / (store.HeldPerSecond(s.typ) * seconds)
				continue
			}
			u.weighByHold(seconds)
		}
	case aggRate:
		s.weighByDuty(by, seconds)
	default:
		for _, u := range s.units {
			u.weight = 1
		}
	}
}

// dutyKey names what shares one factor; release is empty unless asked for.
type dutyKey struct{ service, release string }

// weighByDuty weighs rows by present ÷ observed ÷ window.
func (s *selection) weighByDuty(by string, seconds float64) {
	key := func(u *unit, row int32) dutyKey {
		k := dutyKey{service: u.service(row)}
		if by == ByRelease {
			k.release = u.sets[u.rows.LabelSet[row]].labels.Get(inquest.LabelRelease)
		}
		return k
	}
	duties := make(map[dutyKey]*duty)
	for _, u := range s.units {
		for i, row := range u.picked {
			k := key(u, row)
			d := duties[k]
			if d == nil {
				d = &duty{}
				duties[k] = d
			}
			d.add(u.observed(row), u.hold[i])
		}
	}
	for _, u := range s.units {
		if by != ByRelease && u.part.Service != "" {
			u.weight = duties[dutyKey{service: u.part.Service}].factor() / seconds
			continue
		}
		u.weights = make([]float64, len(u.picked))
		for i, row := range u.picked {
			u.weights[i] = duties[key(u, row)].factor() / seconds
		}
	}
}

// weighByHold weighs rows by hold ÷ window; one weight for all if the holds
// are equal, as they mostly are, so that integers are added up exactly.
func (u *unit) weighByHold(seconds float64) {
	if !slices.ContainsFunc(u.hold, func(h int64) bool { return h != u.hold[0] }) {
		u.weight = time.Duration(u.hold[0]).Seconds() / seconds
		return
	}
	u.weights = make([]float64, len(u.hold))
	for i, h := range u.hold {
		u.weights[i] = time.Duration(h).Seconds() / seconds
	}
}

// duty adds up how much of the present time was observed.
type duty struct{ observed, present int64 } // ns

func (d *duty) add(observed, present int64) {
	d.observed += observed
	d.present += present
}

// factor is present ÷ observed; 0 if nothing was observed, when there is no
// amount either.
func (d *duty) factor() float64 {
	if d.observed == 0 {
		return 0
	}
	return float64(d.present) / float64(d.observed)
}

// fixed rounds a weighed value to an integer of 10^-dec units.
func (s *selection) fixed(v float64) int64 { return int64(math.Round(s.upscaled(v))) }

// upscaled is a weighed value in 10^-dec units. Cores come as nanoseconds per
// second, which are such units already.
func (s *selection) upscaled(v float64) float64 {
	switch s.dec {
	case 3:
		return v * 1e3
	case 6:
		return v * 1e6
	}
	return v
}

// scaled is the value an integer of 10^-dec units stands for.
func scaled(v int64, dec int) float64 {
	switch dec {
	case 3:
		return float64(v) / 1e3
	case 6:
		return float64(v) / 1e6
	case 9:
		return float64(v) / 1e9
	}
	return float64(v)
}
