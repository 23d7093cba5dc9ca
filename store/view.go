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
// was made is in exactly one of them, or in a row of a rollup, whatever becomes
// of heads and blocks until Close.
type View struct {
	// Window is the one asked for, wider where only rollups are left: there it
	// covers whole steps.
	Window     inquest.Window
	Incomplete bool     // log replay still runs: open epochs of the run before may miss profiles
	Damaged    []string // blocks, or parts of them, that cannot be read and are left out
	Parts      []*Part  // by service; those of several services, which have "", first

	blocks []viewBlock
}

// viewBlock is a block as it was when the view was made.
type viewBlock struct {
	*block
	rolled bool
	cuts   []cut
}

// Selection says what a view is of.
type Selection struct {
	// Window bounds the Start of profiles. A zero From or Until does not bound it.
	Window   inquest.Window
	Services Services
	// Rollups lets rows of rollups stand for profiles wherever whole steps of
	// them lie in the window. Without it the view has profiles alone.
	Rollups bool
	// Step, with Rollups, is a length at whose multiples since the epoch the
	// answer is cut, so that coarser steps cannot be used. 0: it is not cut.
	Step time.Duration
	// Fleet, with Rollups, lets tables of functions of all services together, see
	// Section.Fleet, stand for rows of hours and days of the services: far cheaper
	// where neither labels nor stacks are wanted. They have the types that InFleet
	// names; there are no others of these kinds in the view then.
	Fleet bool
	// PerProcess, with Rollups, wants rows of rollups that tell processes and
	// instances apart: those of function digests, of which there are labels and
	// times but no call trees.
	PerProcess bool
	// Digests makes a view of function digests instead, see Part.Digests: of the
	// whole 5-minute steps that touch the window.
	Digests bool
	// Symbols, if not nil, names addresses in trees.
	Symbols Symbols
}

// Services says which services are wanted; the zero value is all of them.
type Services struct {
	Names []string          // exactly these, if not nil
	Match func(string) bool // else those it takes, if not nil
}

func (f *Services) wants(service string) bool {
	switch {
	case f.Names != nil:
		return slices.Contains(f.Names, service)
	case f.Match != nil:
		return f.Match(service)
	}
	return true
}

// mayBeIn says whether a wanted service may be in a block.
func (f *Services) mayBeIn(b *blockInfo) bool {
	return f.Names == nil || slices.ContainsFunc(f.Names, b.mayHave)
}

// View finds the parts with profiles, or rows of rollups, that start in the
// window. Parts leave out row groups that lie beside it, but may hold rows
// outside it: Section.Spans says which count.
func (s *Store) View(ctx context.Context, sel Selection) (*View, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.reserveHeads(ctx, &sel); err != nil {
		return nil, err
	}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return nil, errClosed()
	}
	p := s.plan(&sel)
	v := &View{Incomplete: !s.replayed.Load(), Window: p.window(sel.Window)}
	for _, h := range s.allHeads() {
		if sel.Services.wants(h.service) && !sel.Digests {
			if part := s.headPart(h, p.ofHead(h)); part != nil {
				v.Parts = append(v.Parts, part)
			}
		}
	}
	for _, b := range s.index.overlapping(p.whole.From, p.whole.Until-1) {
		if sel.wantsLevel(b.info.level) && sel.Services.mayBeIn(b.info) && (len(b.cuts) > 0 || p.mayTouch(b.info)) {
			b.acquire()
			v.blocks = append(v.blocks, viewBlock{b, b.info.rolled, b.cuts})
		}
	}
	for key, reason := range s.damaged {
		v.Damaged = append(v.Damaged, key+": "+reason)
	}
	s.mu.RUnlock()
	for _, b := range v.blocks {
		if err := v.addBlock(ctx, s, b, p, &sel); err != nil {
			v.Close()
			return nil, err
		}
	}
	slices.Sort(v.Damaged)
	slices.SortStableFunc(v.Parts, func(a, b *Part) int { return strings.Compare(a.Service, b.Service) })
	for _, part := range v.Parts {
		part.symbols = sel.Symbols
	}
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

func (s *Store) headPart(h *head, spansOf func(inquest.Kind) []Span) *Part {
	snap := h.snapshot()
	p := &Part{
		Service: h.service, s: s, tables: snap.tables,
		loaded: loadedCore | loadedLabels | loadedMeta | loadedDetail,
	}
	t := &p.tables
	for i := range snap.sections {
		hs, l := &snap.sections[i], &t.layouts[i]
		kind := inquest.Kind(t.strings[l.kind])
		spans := spansOf(kind)
		sec := partSection{cols: hs.cols}
		sec.addGroups(hs.groups, spans)
		for _, r := range hs.rows {
			if within(spans, r.start) {
				sec.addRow(r)
			}
		}
		if sec.n == 0 {
			continue
		}
		for _, pr := range l.types {
			sec.types = append(sec.types, [2]string{t.strings[pr.name], t.strings[pr.value]})
		}
		sec.describe(&sectionInfo{kind: kind, sampleTypes: sec.types}, spans)
		p.sections = append(p.sections, sec)
	}
	if len(p.sections) == 0 {
		return nil
	}
	return p
}

// describe fills in what the section says of itself, but for what addGroups
// and addRow count.
func (sec *partSection) describe(si *sectionInfo, spans []Span) {
	info := si.section()
	info.Profiles, info.From, info.Until = sec.info.Profiles, sec.info.From, sec.info.Until
	info.Spans = spans
	sec.info = info
}

func (sec *partSection) addGroups(groups []*group, spans []Span) {
	for _, g := range groups {
		if touch(spans, g.from, g.until) {
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
func (v *View) addBlock(ctx context.Context, s *Store, b viewBlock, p *plan, sel *Selection) error {
	list, err := s.listing(b.block)
	if err != nil {
		v.Damaged = append(v.Damaged, b.info.id+": "+s.quarantine(b.block, wholeBlock, "", err).Error())
		return nil
	}
	if sel.Fleet && !s.hasFleet(b.block, list) {
		own := *sel
		own.Fleet = false
		sel = &own
	}
	first, last := 0, len(list.parts)
	if names := sel.Services.Names; len(names) == 1 {
		first, _ = slices.BinarySearchFunc(list.parts, names[0], func(p partInfo, name string) int { return strings.Compare(p.service, name) })
	}
	for i := first; i < last; i++ {
		pi := &list.parts[i]
		if names := sel.Services.Names; len(names) == 1 && pi.service > names[0] {
			break
		}
		if !sel.wantsPart(b, pi) || !p.touches(b, pi, sel) || s.isDamaged(b.block, i) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := reserve(ctx, pi.viewBytes()); err != nil {
			return err
		}
		part, err := s.blockPart(b.block, i, pi, func(si *sectionInfo) []Span { return p.of(b, pi, si, sel) })
		if err != nil {
			v.Damaged = append(v.Damaged, damageKey(b.block, i)+": "+s.quarantine(b.block, i, pi.service, err).Error())
			continue
		}
		if len(part.sections) > 0 {
			v.Parts = append(v.Parts, part)
		}
	}
	return nil
}

// hasFleet says whether a block has tables of the fleet, all of which can be
// read.
func (s *Store) hasFleet(b *block, list *blockListing) bool {
	has := false
	for i := range list.parts { // they come first
		if list.parts[i].service != "" {
			break
		}
		if s.isDamaged(b, i) {
			return false
		}
		has = has || slices.ContainsFunc(list.parts[i].sections, func(si sectionInfo) bool { return si.fleet })
	}
	return has
}

// wantsLevel says whether blocks of a level may have what is wanted.
func (sel *Selection) wantsLevel(level uint8) bool {
	if level == levelRollup {
		return sel.Rollups || sel.Digests
	}
	return !sel.Digests
}

// wantsPart says whether a part's services are wanted.
func (sel *Selection) wantsPart(b viewBlock, pi *partInfo) bool {
	if b.info.level == levelRollup && pi.service == "" {
		return sel.Fleet && !sel.Digests
	}
	return sel.Services.wants(pi.service)
}

// mayTouch says whether any row of a block may count, from what is in memory
// of it.
func (p *plan) mayTouch(b *blockInfo) bool {
	if b.level != levelRollup && b.rolled {
		return touch(p.spans[Raw], b.from, b.to)
	}
	return touch([]Span{p.whole}, b.from, b.to)
}

// touches says whether any row of the part may count.
func (p *plan) touches(b viewBlock, pi *partInfo, sel *Selection) bool {
	return slices.ContainsFunc(pi.sections, func(si sectionInfo) bool {
		return touch(p.of(b, pi, &si, sel), si.from, si.until)
	})
}

// of is where rows of a section count: where the plan reads them, less what
// is hidden.
func (p *plan) of(b viewBlock, pi *partInfo, si *sectionInfo, sel *Selection) []Span {
	return p.hide.visible(p, p.chosen(b, pi, si, sel), b, pi, si)
}

// chosen is where the plan reads rows of a section: profiles that are in
// rollups too only where it has no rollup, and of two parts that hold the same
// steps only the one of all services or only those of one each.
func (p *plan) chosen(b viewBlock, pi *partInfo, si *sectionInfo, sel *Selection) []Span {
	switch {
	case sel.Digests:
		if si.digest {
			return []Span{p.whole}
		}
		return nil
	case si.digest != sel.PerProcess && b.info.level == levelRollup:
		return nil
	case si.digest:
		return p.spans[FiveMinutes]
	case b.info.level == levelRollup:
		if si.fleet != (sel.Fleet && inFleet(si)) {
			return nil
		}
		return p.spans[si.resolution]
	case b.rolled:
		return p.spans[Raw]
	}
	return []Span{p.whole}
}

// ofHead is where profiles of a head count, by kind.
func (p *plan) ofHead(h *head) func(inquest.Kind) []Span {
	return func(kind inquest.Kind) []Span {
		return after([]Span{p.whole}, p.hide.since(h.service, kind, Raw, true))
	}
}

// inFleet says whether rows of a section are in tables of all services, or are
// such.
func inFleet(s *sectionInfo) bool {
	return s.fleet || s.resolution >= fleetFrom && len(fleetColumns(s.kind, s.sampleTypes)) > 0
}

// blockPart opens a part with the sections that have rows in their spans.
func (s *Store) blockPart(b *block, i int, pi *partInfo, spans func(*sectionInfo) []Span) (*Part, error) {
	dir, err := s.directory(b, i, pi)
	if err != nil {
		return nil, err
	}
	p := &Part{Service: pi.service, s: s, block: b, index: i, dir: dir}
	for j := range pi.sections {
		si := &pi.sections[j]
		at := spans(si)
		sec := partSection{cols: len(si.sampleTypes), types: si.sampleTypes, digest: si.digest}
		sec.addGroups(dir.sections[j], at)
		if sec.n == 0 {
			continue
		}
		sec.describe(si, at)
		p.sections = append(p.sections, sec)
	}
	return p, nil
}

// always is all of time.
var always = []Span{{minTime, maxTime}}

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
	v, err = s.View(ctx, Selection{Window: w})
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
		if diskFailed(err) {
			return nil, 0, 0, inquest.Errorf(inquest.ErrUnavailable, "look for key in block %s: %w", b.info.id, err)
		}
		switch {
		case err != nil || k != nil && k.part == lostPart:
			at[b.block] = wholeBlock // its rows have keys too
		case k != nil:
			at[b.block] = int(k.part)
		}
	}
	for _, p := range v.Parts {
		if part, ok := at[p.block]; p.block != nil && (!ok || part != p.index && part != wholeBlock) {
			continue
		}
		for i := range p.sections {
			rows, err := p.Rows(ctx, i)
			if err != nil {
				return nil, 0, 0, err
			}
			if r := slices.Index(rows.Key, key); r >= 0 && within(p.sections[i].info.Spans, rows.Start[r]) {
				return p, i, r, nil
			}
		}
	}
	return nil, 0, 0, nil
}

// ServiceInfo says what there is of one service.
type ServiceInfo struct {
	Name     string
	Sections []Section // one per kind and set of sample types, over all parts; Profiles counts single ones that are kept
}

// Services lists the services with profiles, or rows of rollups, in the window,
// sorted by name, from the listings of blocks and the heads alone: a section
// counts as a whole if it touches the window.
func (s *Store) Services(ctx context.Context, w inquest.Window) ([]ServiceInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	from, until := windowNanos(w)
	all := map[string]map[string]*Section{}
	add := func(service string, sec Section) {
		first, last := boundNanos(sec.From, 0), boundNanos(sec.Until, 0)
		if sec.Resolution != Raw {
			last += int64(sec.Resolution.Duration()) - 1
			sec.Profiles, sec.Resolution = 0, Raw
		}
		if first >= until || last < from {
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
	p := rawOnly(Span{from, until})
	p.hide = s.hiding(false)
	for _, h := range s.allHeads() {
		if p := s.headPart(h, p.ofHead(h)); p != nil {
			for i := range p.sections {
				add(h.service, p.sections[i].info)
			}
		}
	}
	var blocks []viewBlock
	for _, b := range s.index.overlapping(from, until-1) {
		b.acquire()
		blocks = append(blocks, viewBlock{b, b.info.rolled, b.cuts})
	}
	s.mu.RUnlock()
	for _, b := range blocks {
		if list, err := s.listing(b.block); err == nil { // else views report it
			for i := range list.parts {
				pi := &list.parts[i]
				for j := range pi.sections {
					si := &pi.sections[j]
					// Of rollups the finest: those that are coarser touch more.
					if si.digest || si.fleet || si.resolution > FiveMinutes {
						continue
					}
					if touch(p.hide.visible(p, []Span{p.whole}, b, pi, si), si.from, si.until) {
						add(pi.service, si.section())
					}
				}
			}
		}
		b.release()
	}
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
