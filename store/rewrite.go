package store

import (
	"context"
	"fmt"
	"io"
	"slices"
)

// keep says which rows of a section stay: those that start in the spans.
type keep func(pi *partInfo, si *sectionInfo) []Span

// rewriting writes a block without some of its rows. What stays is copied
// stream by stream, but for row groups of which some rows go.
type rewriting struct {
	s    *Store
	b    *block // held
	list *blockListing
	w    *blockWriter
	at   *filter

	// For the keys: by part and section the groups' first rows, and where they
	// are now.
	moved [][][]movedRows
}

// movedRows are the rows of one group: from on in the old section, to on in
// the new one.
type movedRows struct {
	from, n, to   int
	part, section uint32 // new numbers
	gone          bool
	rows          []int // of the group, those that stay; nil: all
}

// rewrite writes a new block with what keep wants of b; nil if that is
// nothing. The new block counts as written when the old one was, and closes its
// epochs: with the catalog lost it is found to stand for it. One that is fresh
// is to be rolled up like one that heads have become.
func (s *Store) rewrite(ctx context.Context, b *block, fresh bool, keep keep) (info *blockInfo, err error) {
	b.acquire()
	defer b.release()
	list, err := s.listing(b)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list.parts, func(pi partInfo) bool {
		return slices.ContainsFunc(pi.sections, func(si sectionInfo) bool { return touch(keep(&pi, &si), si.from, si.until) })
	}) {
		return nil, nil
	}
	info, err = s.putBlock(ctx, func(w io.Writer, id string, _ int64) (*blockInfo, error) {
		level := b.info.level
		if b.info.rolled {
			level = levelMerged // that says so too should the catalog be lost
		}
		out, err := newBlockWriter(w, s.pk, id, b.info.created, level)
		if err != nil {
			return nil, err
		}
		out.epochs = list.epochs
		out.sources = []string{list.id}
		if fresh {
			out.level = levelHead
		}
		r := &rewriting{s: s, b: b, list: list, w: out}
		for i := range list.parts {
			if err := r.part(&list.parts[i], keep); err != nil {
				return nil, fmt.Errorf("block %s, part %d: %w", b.info.id, i, err)
			}
		}
		if err := r.keys(); err != nil {
			return nil, fmt.Errorf("block %s: %w", b.info.id, err)
		}
		return out.finish()
	})
	if err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	if info.profiles == 0 { // groups were touched, but no row
		return nil, s.discard(info)
	}
	info.rolled = b.info.rolled && !fresh
	return info, nil
}

// part copies one part, as far as anything of it stays.
func (r *rewriting) part(pi *partInfo, keep keep) error {
	dir, err := r.directory(pi)
	if err != nil {
		return err
	}
	some, all := false, true
	for i, groups := range dir.sections {
		spans := keep(pi, &pi.sections[i])
		for _, g := range groups {
			some = some || touch(spans, g.from, g.until)
			all = all && covers(spans, g.from, g.until)
		}
	}
	if !some {
		r.moved = append(r.moved, nil)
		return nil
	}
	out := &partDirectory{}
	info := partInfo{service: pi.service}
	r.at = nil
	if !all {
		if r.at, err = newFilter(r.s, r.b, pi, dir); err != nil {
			return err
		}
	}
	moved := make([][]movedRows, len(dir.sections))
	for i, groups := range dir.sections {
		si := pi.sections[i]
		si.profiles = 0
		placed, rows, err := r.groups(i, groups, keep(pi, &si), &si, uint32(len(info.sections)))
		if err != nil {
			return err
		}
		moved[i] = rows
		if len(placed) > 0 {
			out.sections = append(out.sections, placed)
			info.sections = append(info.sections, si)
		}
	}
	r.moved = append(r.moved, moved)
	if out.streams, err = r.dictionary(dir); err != nil {
		return err
	}
	if len(info.sections) == 0 { // groups were touched, but no row
		return nil
	}
	r.w.raw = appendPartDirectory(r.w.raw[:0], out)
	if info.directory, err = r.w.place(r.w.pk.stream(0, r.w.raw)); err != nil {
		return err
	}
	r.w.parts = append(r.w.parts, info)
	return nil
}

// dictionary copies that of the part at hand, without what only rows used
// that went.
func (r *rewriting) dictionary(dir *partDirectory) ([]stream, error) {
	if r.at == nil {
		return r.copy(dir.streams)
	}
	streams, err := r.at.dictionary(dir)
	if err != nil {
		return nil, err
	}
	for i := range streams {
		if streams[i], err = r.w.place(streams[i]); err != nil {
			return nil, err
		}
	}
	return streams, nil
}

// covers says whether all that starts from first to last lies in one of the
// spans.
func covers(spans []Span, first, last int64) bool {
	return slices.ContainsFunc(spans, func(s Span) bool { return s.Contains(first) && s.Contains(last) })
}

func (r *rewriting) directory(pi *partInfo) (*partDirectory, error) {
	raw, err := r.b.read(r.s.pk, &pi.directory)
	if err != nil {
		return nil, err
	}
	dir, err := readPartDirectory(raw)
	if err == nil && len(dir.sections) != len(pi.sections) {
		err = errDirectory
	}
	return dir, err
}

// groups copies what stays of the groups of a section, which is number
// section of the part now.
func (r *rewriting) groups(old int, all []*group, spans []Span, si *sectionInfo, section uint32) (placed []*group, moved []movedRows, err error) {
	at := 0
	for _, g := range all {
		m := movedRows{from: at, n: g.rows, to: si.profiles, part: uint32(len(r.w.parts)), section: section}
		at += g.rows
		out, err := r.group(old, g, spans, &m)
		if err != nil {
			return nil, nil, err
		}
		if m.gone = out == nil; !m.gone {
			if len(placed) == 0 {
				si.from, si.until = out.from, out.until
			}
			si.from, si.until = min(si.from, out.from), max(si.until, out.until)
			si.profiles += out.rows
			placed = append(placed, out)
		}
		moved = append(moved, m)
	}
	return placed, moved, nil
}

// group copies what stays of a group, nil if nothing does.
func (r *rewriting) group(section int, g *group, spans []Span, m *movedRows) (out *group, err error) {
	switch {
	case !touch(spans, g.from, g.until):
		return nil, nil
	case covers(spans, g.from, g.until):
		out = &group{rows: g.rows, samples: g.samples, from: g.from, until: g.until, sets: g.sets}
		if out.streams, err = r.copy(g.streams); err == nil && r.at != nil {
			err = r.at.mark(section, g)
		}
		return out, err
	}
	made, err := r.at.group(section, g, spans)
	if err != nil || made.group == nil {
		return nil, err
	}
	m.rows = made.rows
	out = &group{rows: made.group.rows, samples: made.group.samples, from: made.group.from, until: made.group.until, sets: made.group.sets}
	for i := range made.group.streams {
		st, err := r.w.place(made.group.streams[i])
		if err != nil {
			return nil, err
		}
		out.streams = append(out.streams, st)
	}
	return out, nil
}

func (r *rewriting) copy(streams []stream) ([]stream, error) {
	out := make([]stream, 0, len(streams))
	for i := range streams {
		st, err := r.b.stored(&streams[i])
		if err == nil {
			st, err = r.w.place(st)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// keys takes over the keys of the rows that stay.
func (r *rewriting) keys() error {
	if r.b.info.keys == 0 {
		return nil
	}
	list, err := r.b.read(r.s.pk, &r.b.info.keyList)
	if err != nil {
		return err
	}
	info, err := r.b.read(r.s.pk, &r.b.info.keyInfo)
	if err != nil {
		return err
	}
	keys, err := readAllKeys(list, info)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if r.move(&k) {
			r.w.key = append(r.w.key, k)
		}
	}
	return nil
}

// move finds the new place of a key's row; false if it went.
func (r *rewriting) move(k *storedKey) bool {
	if int(k.part) >= len(r.moved) || int(k.section) >= len(r.moved[k.part]) {
		return false
	}
	groups := r.moved[k.part][k.section]
	for i := range groups {
		m := &groups[i]
		row := int(k.row) - m.from
		if row < 0 || row >= m.n || m.gone {
			continue
		}
		if m.rows != nil {
			at, ok := slices.BinarySearch(m.rows, row)
			if !ok {
				return false
			}
			row = at
		}
		k.part, k.section, k.row = m.part, m.section, uint32(m.to+row)
		return true
	}
	return false
}
