package store

import (
	"context"
	"fmt"
	"io"
)

// keepGroup says of a row group of a section whether it stays.
type keepGroup func(pi *partInfo, si *sectionInfo, g *group) bool

// rewriting writes a block without some of its rows. What stays is copied
// stream by stream, with the dictionaries of its parts as they are.
type rewriting struct {
	s    *Store
	b    *block // held
	list *blockListing
	w    *blockWriter

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
}

// rewrite writes a new block with what keep wants of b. info is nil if nothing
// is left. The new block counts as written when the old one was, and closes
// its epochs: with the catalog lost it is found to stand for it.
func (s *Store) rewrite(ctx context.Context, b *block, keep keepGroup) (info *blockInfo, err error) {
	b.acquire()
	defer b.release()
	list, err := s.listing(b)
	if err != nil {
		return nil, err
	}
	info, err = s.putBlock(ctx, func(w io.Writer, id string, _ int64) (*blockInfo, error) {
		out, err := newBlockWriter(w, s.pk, id, b.info.created, b.info.level)
		if err != nil {
			return nil, err
		}
		out.epochs = list.epochs
		out.sources = append(append(out.sources, list.sources...), list.id)
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
	info.rolled = b.info.rolled
	return info, nil
}

// part copies one part, as far as anything of it stays.
func (r *rewriting) part(pi *partInfo, keep keepGroup) error {
	dir, err := r.directory(pi)
	if err != nil {
		return err
	}
	kept := make([][]*group, len(dir.sections))
	some := false
	for i, groups := range dir.sections {
		for _, g := range groups {
			if keep(pi, &pi.sections[i], g) {
				kept[i] = append(kept[i], g)
				some = true
			}
		}
	}
	if !some {
		r.moved = append(r.moved, nil)
		return nil
	}
	out := &partDirectory{}
	if out.streams, err = r.copy(dir.streams); err != nil {
		return err
	}
	info := partInfo{service: pi.service}
	moved := make([][]movedRows, len(dir.sections))
	for i, groups := range dir.sections {
		si := pi.sections[i]
		si.profiles = 0
		placed, rows, err := r.groups(groups, kept[i], &si, uint32(len(info.sections)))
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
	r.w.raw = appendPartDirectory(r.w.raw[:0], out)
	if info.directory, err = r.w.place(r.w.pk.stream(0, r.w.raw)); err != nil {
		return err
	}
	r.w.parts = append(r.w.parts, info)
	return nil
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

// groups copies the groups of a section that are kept, which is number section
// of the part now.
func (r *rewriting) groups(all, kept []*group, si *sectionInfo, section uint32) (placed []*group, moved []movedRows, err error) {
	at := 0
	for _, g := range all {
		m := movedRows{from: at, n: g.rows, to: si.profiles, part: uint32(len(r.w.parts)), section: section}
		at += g.rows
		if m.gone = len(kept) == 0 || kept[0] != g; !m.gone {
			kept = kept[1:]
			out := &group{rows: g.rows, samples: g.samples, from: g.from, until: g.until}
			if out.streams, err = r.copy(g.streams); err != nil {
				return nil, nil, err
			}
			if len(placed) == 0 {
				si.from, si.until = g.from, g.until
			}
			si.from, si.until = min(si.from, g.from), max(si.until, g.until)
			si.profiles += g.rows
			placed = append(placed, out)
		}
		moved = append(moved, m)
	}
	return placed, moved, nil
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
		if m := r.find(&k); m != nil {
			k.part, k.section, k.row = m.part, m.section, uint32(m.to)+k.row-uint32(m.from)
			r.w.key = append(r.w.key, k)
		}
	}
	return nil
}

// find returns the group that has a key's row, nil if it went.
func (r *rewriting) find(k *storedKey) *movedRows {
	if int(k.part) >= len(r.moved) || int(k.section) >= len(r.moved[k.part]) {
		return nil
	}
	groups := r.moved[k.part][k.section]
	for i := range groups {
		if m := &groups[i]; int(k.row) >= m.from && int(k.row) < m.from+m.n {
			if m.gone {
				return nil
			}
			return m
		}
	}
	return nil
}
