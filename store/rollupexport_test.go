package store

import (
	"context"
	"errors"
	"testing"
)

// WithRollMemory bounds what cells that are being rolled up take.
func WithRollMemory(n int64) func(*Options) { return func(o *Options) { o.rollBytes = n } }

func readDigests(get fetch, rows []row, cols, names int) error {
	var r digestReader
	err := r.read(get, rows, cols, names)
	for i := 0; i < len(rows) && err == nil; i++ {
		r.row(i, rows[i].totals)
	}
	return err
}

// RollupView is a view of every part of every rollup block, with all of its
// sections.
func RollupView(tb testing.TB, s *Store) *View {
	tb.Helper()
	v := &View{}
	s.mu.RLock()
	for _, b := range s.blocks {
		if b.info.level == levelRollup {
			b.acquire()
			v.blocks = append(v.blocks, viewBlock{b, false, nil})
		}
	}
	s.mu.RUnlock()
	for _, b := range v.blocks {
		list, err := s.listing(b.block)
		if err != nil {
			tb.Fatal(err)
		}
		for i := range list.parts {
			p, err := s.open(partRef{b.block, i, &list.parts[i]})
			if err != nil {
				tb.Fatal(err)
			}
			v.Parts = append(v.Parts, p)
		}
	}
	return v
}

// Rollups says how many rollup blocks there are, and how many blocks of
// profiles have been rolled up and how many have not.
func Rollups(s *Store) (blocks, rolled, unrolled int, bytes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, b := range s.blocks {
		switch {
		case b.info.level == levelRollup:
			blocks++
			bytes += b.info.size
		case b.info.rolled:
			rolled++
		default:
			unrolled++
		}
	}
	return blocks, rolled, unrolled, bytes
}

// DigestSection says whether a section has digests.
func DigestSection(p *Part, section int) bool { return p.sections[section].digest }

// DropRollups rewrites all rollup blocks of each day without what is not to be
// kept.
func DropRollups(ctx context.Context, s *Store, keep [Day + 1]bool) error {
	k := s.keeper // whose work this is: it rests
	k.stop()
	defer func() {
		k.ended = make(chan struct{})
		k.start()
	}()
	s.mu.RLock()
	days := map[int64][]*block{}
	for _, b := range s.blocks {
		if b.info.level == levelRollup {
			b.acquire()
			day := floorTo(b.info.from, int64(Day.Duration()))
			days[day] = append(days[day], b)
		}
	}
	s.mu.RUnlock()
	var errs []error
	for _, list := range days {
		errs = append(errs, s.rewriteRollups(ctx, list, keep))
		releaseAll(list)
	}
	return errors.Join(errs...)
}

// RolledStreams makes streams for ReadRolled: of two rows with one column.
func RolledStreams() (out [][5][]byte) {
	pk := newPacker()
	for _, sign := range []int64{1, -1} {
		rows := []*row{
			{totals: []int64{1000 * sign}, cell: &cellInfo{profiles: 2, observed: 5, samples: 9, processes: []uint32{0, 3}}},
			{totals: []int64{70_000_000}, cell: &cellInfo{profiles: 1, truncated: 1}},
		}
		ds := []*digest{
			{[]uint32{1, 4}, [][]int64{{300, 700 * sign}}, [][]int64{{1000 * sign, 700 * sign}}},
			{[]uint32{1, 2, 9}, [][]int64{{0, 12_345_678, 0}}, [][]int64{{70_000_000, 12_345_678, 70_000_000}}},
		}
		var w digestWriter
		g := w.group(pk, rows, ds, 1)
		raw := func(id uint8) []byte {
			b, err := unpackStream(pk, g.stream(id), g.stream(id).data)
			if err != nil {
				panic(err)
			}
			return b
		}
		out = append(out, [5][]byte{appendCells(nil, rows), raw(streamSeries), raw(columnStream(0, streamValues)), raw(columnStream(0, streamRest)), raw(columnStream(0, streamBits))})
	}
	return out
}

// ReadRolled reads streams of a group of a rollup, every column from the same.
func ReadRolled(cells, shape, self, cums, bits []byte, rows, cols int) int64 {
	list := make([]row, rows)
	for i := range list {
		list[i].totals = make([]int64, cols)
		for c := range cols {
			list[i].totals[c] = int64(i+1) * 1000
		}
	}
	sum := int64(0)
	if readCells(cells, list, 100) == nil {
		for i := range list {
			sum += int64(len(list[i].cell.processes))
		}
	}
	if info, err := readFuncInfo(cells, len(cells)); err == nil {
		sum += int64(len(info))
	}
	var r digestReader
	err := r.read(func(id uint8) ([]byte, error) {
		switch {
		case id == streamSeries:
			return shape, nil
		case (id-streamColumn)%streamsPerColumn == streamValues:
			return self, nil
		case (id-streamColumn)%streamsPerColumn == streamRest:
			return cums, nil
		}
		return bits, nil
	}, list, cols, 1000)
	for i := 0; i < rows && err == nil; i++ {
		sum += int64(len(r.row(i, list[i].totals).Name))
	}
	return sum
}

// RollupSizes is what the pieces of rollups take, in bytes.
func RollupSizes(tb testing.TB, s *Store) map[string]int64 {
	v := RollupView(tb, s)
	defer v.Close()
	out := map[string]int64{}
	for _, p := range v.Parts {
		where := "own "
		if p.Service == "" {
			where = "fleet "
		}
		if err := p.load(loadedCore); err != nil {
			tb.Fatal(err)
		}
		out[where+"nodes"] += int64(len(p.tables.funcUp))
		for _, st := range p.dir.streams {
			what := map[uint8]string{secNames: "names", secFuncTree: "tree", secFuncInfo: "info"}[st.id]
			if what == "" {
				what = "rest"
			}
			out[where+what] += int64(st.size)
		}
		for _, sec := range p.sections {
			what := sec.info.Resolution.String()
			if sec.digest {
				what = "digests"
			}
			for _, g := range sec.groups {
				for _, st := range g.streams {
					out[where+what] += int64(st.size)
				}
			}
		}
	}
	return out
}

// RollupDue is how many blocks would be rolled up now.
func RollupDue(s *Store) int {
	batch := s.rollupBatch()
	releaseAll(batch)
	return len(batch)
}

// DamageFleet has the tables of the fleet of all rollups taken for damaged, and
// says how many parts these are.
func DamageFleet(tb testing.TB, s *Store) (n int) {
	tb.Helper()
	v := RollupView(tb, s)
	defer v.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range v.Parts {
		if p.Service == "" {
			s.damaged[damageKey(p.block, p.index)] = "by the test"
			n++
		}
	}
	return n
}
