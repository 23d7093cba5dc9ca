package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// View is a consistent set of parts: every profile that was stored when it
// was made is in exactly one of them, whatever becomes of heads and blocks
// until Close.
type View struct {
	Incomplete bool     // log replay still runs: open epochs of the run before may miss profiles
	Damaged    []string // blocks, or parts of them, that cannot be read and are left out
	Parts      []*Part  // by service

	blocks []*block
}

// View finds the parts with profiles that start in the window. A zero From or
// Until does not bound it. service filters by service name; nil takes all.
// Parts leave out row groups that lie beside the window, but may hold
// profiles outside it.
func (s *Store) View(ctx context.Context, w inquest.Window, service func(string) bool) (*View, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.reserveHeads(ctx, service); err != nil {
		return nil, err
	}
	from, until := windowNanos(w)
	v := &View{}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, errClosed()
	}
	v.Incomplete = !s.replayed.Load()
	for _, h := range s.allHeads() {
		if service == nil || service(h.service) {
			if p := s.headPart(h, from, until); p != nil {
				v.Parts = append(v.Parts, p)
			}
		}
	}
	for _, b := range s.blocks {
		if b.info.from >= until || b.info.to < from {
			continue
		}
		b.acquire()
		v.blocks = append(v.blocks, b)
	}
	for key, reason := range s.damaged {
		v.Damaged = append(v.Damaged, key+": "+reason)
	}
	s.mu.RUnlock()
	for _, b := range v.blocks {
		if err := v.addBlock(ctx, s, b, from, until, service); err != nil {
			v.Close()
			return nil, err
		}
	}
	slices.Sort(v.Damaged)
	slices.SortStableFunc(v.Parts, func(a, b *Part) int { return strings.Compare(a.Service, b.Service) })
	return v, nil
}

// Close lets the view's blocks go. Nothing of its parts may be used
// afterwards, except what methods returned.
func (v *View) Close() {
	for _, b := range v.blocks {
		b.release()
	}
	v.blocks, v.Parts = nil, nil
}

func windowNanos(w inquest.Window) (from, until int64) {
	return boundNanos(w.From, math.MinInt64), boundNanos(w.Until, math.MaxInt64)
}

// boundNanos is unix ns, unbounded for a zero time and for years that do not
// fit.
func boundNanos(t time.Time, unbounded int64) int64 {
	switch {
	case t.IsZero():
		return unbounded
	case t.Year() < 1678:
		return math.MinInt64
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// allHeads lists every head; s.mu is held.
func (s *Store) allHeads() []*head {
	out := make([]*head, 0, len(s.heads)+len(s.closing)+len(s.recovered))
	for _, h := range s.heads {
		out = append(out, h)
	}
	return append(append(out, s.closing...), s.recovered...)
}

func (s *Store) headPart(h *head, from, until int64) *Part {
	snap := h.snapshot()
	p := &Part{
		Service: h.service, s: s, tables: snap.tables,
		loaded: loadedCore | loadedLabels | loadedMeta | loadedDetail,
	}
	t := &p.tables
	for i := range snap.sections {
		hs := &snap.sections[i]
		sec := partSection{cols: hs.cols}
		sec.addGroups(hs.groups, from, until)
		for _, r := range hs.rows {
			if r.start >= from && r.start < until {
				sec.addRow(r)
			}
		}
		if sec.n == 0 {
			continue
		}
		l := &t.layouts[i]
		sec.info.Kind, sec.info.Types = t.sectionTypes(l)
		for _, pr := range l.types {
			sec.types = append(sec.types, [2]string{t.strings[pr.name], t.strings[pr.value]})
		}
		p.sections = append(p.sections, sec)
	}
	if len(p.sections) == 0 {
		return nil
	}
	return p
}

func (sec *partSection) addGroups(groups []*group, from, until int64) {
	for _, g := range groups {
		if g.from < until && g.until >= from {
			sec.groups = append(sec.groups, g)
			sec.count(g.rows, g.from, g.until)
		}
	}
}

func (sec *partSection) addRow(r *row) {
	sec.rows = append(sec.rows, r)
	sec.count(1, r.start, r.start)
}

func (sec *partSection) count(rows int, from, until int64) {
	a, b := unixTime(from), unixTime(until)
	if sec.n == 0 || a.Before(sec.info.From) {
		sec.info.From = a
	}
	if sec.n == 0 || b.After(sec.info.Until) {
		sec.info.Until = b
	}
	sec.n += rows
	sec.info.Profiles = sec.n
}

// addBlock adds the parts of a block that the view wants. It fails only for
// want of memory, or of time.
func (v *View) addBlock(ctx context.Context, s *Store, b *block, from, until int64, service func(string) bool) error {
	for i := range b.info.parts {
		pi := &b.info.parts[i]
		wanted := slices.ContainsFunc(pi.sections, func(si sectionInfo) bool { return si.from < until && si.until >= from })
		if !wanted || service != nil && !service(pi.service) || s.isDamaged(b, i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := reserve(ctx, pi.viewBytes()); err != nil {
			return err
		}
		p, err := s.blockPart(b, i, from, until)
		if err != nil {
			v.Damaged = append(v.Damaged, damageKey(b, i)+": "+s.quarantine(b, i, err).Error())
			continue
		}
		if len(p.sections) > 0 {
			v.Parts = append(v.Parts, p)
		}
	}
	return nil
}

func (s *Store) blockPart(b *block, i int, from, until int64) (*Part, error) {
	pi := &b.info.parts[i]
	raw, err := b.read(s.pk, &pi.directory)
	if err != nil {
		return nil, err
	}
	dir, err := readPartDirectory(raw)
	if err != nil {
		return nil, err
	}
	if len(dir.sections) != len(pi.sections) {
		return nil, errDirectory
	}
	p := &Part{Service: pi.service, s: s, block: b, index: i, dir: dir}
	for j := range pi.sections {
		si := &pi.sections[j]
		sec := partSection{cols: len(si.sampleTypes), types: si.sampleTypes}
		sec.addGroups(dir.sections[j], from, until)
		if sec.n == 0 {
			continue
		}
		sec.info.Kind, sec.info.Types = si.kind, si.types()
		p.sections = append(p.sections, sec)
	}
	return p, nil
}

func formatMillis(start int64) string {
	return strconv.FormatInt(floorMillis(start), 36)
}

func floorMillis(ns int64) int64 {
	ms := ns / 1e6
	if ns%1e6 < 0 {
		ms--
	}
	return ms
}

// Find locates a stored profile by its id: a view, to be closed by the
// caller, with the one part that has it, and its section and row there.
// The error is of kind ErrInvalid for what is no id, ErrNotFound where there
// is no such profile.
func (s *Store) Find(ctx context.Context, id string) (v *View, section, row int, err error) {
	hexKey, start, ok := strings.Cut(id, "-")
	key, err := inquest.ParseKey(hexKey)
	ms, e := strconv.ParseInt(start, 36, 64)
	if err != nil || !ok || e != nil || ms > math.MaxInt64/1_000_000-1 || ms < math.MinInt64/1_000_000 {
		return nil, 0, 0, inquest.Errorf(inquest.ErrInvalid, "profile id %.80q: want 32 hex digits, a dash and the start in base 36", id)
	}
	w := inquest.Window{From: unixTime(ms * 1e6), Until: unixTime((ms + 1) * 1e6)}
	v, err = s.View(ctx, w, nil)
	if err != nil {
		return nil, 0, 0, err
	}
	defer func() {
		if err != nil {
			v.Close()
			v = nil
		}
	}()
	p, section, row, err := v.find(ctx, key)
	if err != nil {
		return v, 0, 0, err
	}
	if p == nil && v.Incomplete {
		return v, 0, 0, inquest.Errorf(inquest.ErrUnavailable, "profile %s is not there yet: the log is still being replayed", id)
	}
	if p == nil {
		return v, 0, 0, inquest.Errorf(inquest.ErrNotFound, "there is no profile %s", id)
	}
	v.Parts = []*Part{p}
	return v, section, row, nil
}

// find looks for a key in the view; p is nil if it is not there.
func (v *View) find(ctx context.Context, key inquest.Key) (p *Part, section, row int, err error) {
	at := map[*block]int{} // part that has the key, of blocks that have it
	for _, b := range v.blocks {
		if len(v.Parts) == 0 {
			break
		}
		k, err := b.findKey(v.Parts[0].s.pk, key)
		if err != nil {
			return nil, 0, 0, inquest.Errorf(inquest.ErrUnavailable, "look for key in block %s: %w", b.info.id, err)
		}
		if k != nil {
			at[b] = int(k.part)
		}
	}
	for _, p := range v.Parts {
		if part, ok := at[p.block]; p.block != nil && (!ok || part != p.index) {
			continue
		}
		for i := range p.sections {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				return nil, 0, 0, err
			}
			if r := slices.Index(rows.Key, key); r >= 0 {
				return p, i, r, nil
			}
		}
	}
	return nil, 0, 0, nil
}

// ServiceInfo says what there is of one service.
type ServiceInfo struct {
	Name     string
	Sections []Section // one per kind and set of sample types, over all parts; Profiles counts whole sections
}

// Services lists the services with profiles in the window, sorted by name,
// from the catalog and the heads alone.
func (s *Store) Services(ctx context.Context, w inquest.Window) ([]ServiceInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from, until := windowNanos(w)
	all := map[string]map[string]*Section{}
	add := func(service string, sec Section) {
		if boundNanos(sec.From, 0) >= until || boundNanos(sec.Until, 0) < from {
			return
		}
		kinds := all[service]
		if kinds == nil {
			kinds = map[string]*Section{}
			all[service] = kinds
		}
		key := fmt.Sprint(sec.Kind, sec.Types)
		have := kinds[key]
		if have == nil {
			kinds[key] = &sec
			return
		}
		have.Profiles += sec.Profiles
		if sec.From.Before(have.From) {
			have.From = sec.From
		}
		if sec.Until.After(have.Until) {
			have.Until = sec.Until
		}
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, errClosed()
	}
	for _, h := range s.allHeads() {
		if p := s.headPart(h, from, until); p != nil {
			for i := range p.sections {
				add(h.service, p.sections[i].info)
			}
		}
	}
	for _, b := range s.blocks {
		for i := range b.info.parts {
			for j := range b.info.parts[i].sections {
				add(b.info.parts[i].service, b.info.parts[i].sections[j].section())
			}
		}
	}
	s.mu.RUnlock()
	return serviceList(all), nil
}

func serviceList(all map[string]map[string]*Section) []ServiceInfo {
	out := make([]ServiceInfo, 0, len(all))
	for name, kinds := range all {
		info := ServiceInfo{Name: name}
		for _, sec := range kinds {
			info.Sections = append(info.Sections, *sec)
		}
		slices.SortFunc(info.Sections, func(a, b Section) int {
			return strings.Compare(fmt.Sprint(a.Kind, a.Types), fmt.Sprint(b.Kind, b.Types))
		})
		out = append(out, info)
	}
	slices.SortFunc(out, func(a, b ServiceInfo) int { return strings.Compare(a.Name, b.Name) })
	return out
}
