package store

import (
	"context"
	"fmt"
)

// merger makes one part of several of the same service. It reuses its memory.
type merger struct {
	s      *Store
	w      *grouper
	shape  shape
	column columnReader
	place  []uint32 // see transpose
	next   []uint32
	rows   []row

	open   []*openGroup // oldest first
	opened int64        // bytes of them
	spare  []*openGroup
}

func newMerger(s *Store) *merger { return &merger{s: s, w: &grouper{pk: s.pk}} }

// mergeSource is a part on its way into a merged one.
type mergeSource struct {
	block *block // held
	index int    // of the part
	info  *partInfo
	size  int64      // of its streams, bytes
	hash  [][]uint64 // bodies', by section and row

	// While the part is merged:
	part *Part
	ids  *remap
}

// openPart opens the source for the directory of its part.
func (src *mergeSource) openPart(s *Store) (*Part, error) {
	p, err := s.blockPart(src.block, src.index, src.info, func(*sectionInfo) []Span { return always })
	if err == nil && len(p.sections) != len(src.info.sections) {
		err = errDirectory
	}
	if err != nil {
		return nil, s.quarantine(src.block, src.index, src.info.service, err)
	}
	return p, nil
}

// rows reads what is known of the rows of a group.
func (src *mergeSource) rows(g *group, cols int) ([]row, error) {
	raw, err := src.part.groupStream(g, streamRows)
	if err != nil {
		return nil, err
	}
	return readRows(raw, g.rows, cols, rowLimits{len(src.ids.labels), len(src.ids.processes), len(src.ids.forms)})
}

// parts writes a service's parts: one, or several if their dictionary together
// would be larger than Options.MergeBytes.
func (m *merger) parts(ctx context.Context, b *blockWriter, service string, sources []*mergeSource) error {
	for len(sources) > 0 {
		n, err := m.part(ctx, b, service, sources)
		if err != nil {
			return fmt.Errorf("merge %s: %w", service, err)
		}
		sources = sources[n:]
	}
	return nil
}

// part merges the first n sources into a part, as many as fit.
func (m *merger) part(ctx context.Context, b *blockWriter, service string, sources []*mergeSource) (n int, err error) {
	d := newMergeDict()
	defer func() {
		for _, src := range sources[:n] {
			src.part, src.ids = nil, nil
		}
	}()
	var layouts []*sectionMerger
	for _, src := range sources {
		fits, err := m.load(ctx, src, d)
		if err != nil {
			return n, err
		}
		if !fits {
			break
		}
		n++
		for i := range src.part.sections {
			id := d.layoutOf(&src.info.sections[i])
			if int(id) == len(layouts) {
				layouts = append(layouts, &sectionMerger{m: m, cols: src.part.sections[i].cols})
			}
			if err := layouts[id].add(src, i); err != nil {
				return n, err
			}
		}
	}
	t := &d.tables
	dir := &partDirectory{}
	if err := b.dictionary(dir, t); err != nil {
		return n, err
	}
	info := partInfo{service: service}
	for id, x := range layouts {
		si := t.sectionInfo(&t.layouts[id])
		var groups []*group
		err := x.write(ctx, t, uint32(id), func(g *group) error {
			placed, err := b.group(g, &si, uint32(len(info.sections)))
			groups = append(groups, placed)
			return err
		})
		if err != nil {
			return n, err
		}
		dir.sections = append(dir.sections, groups)
		info.sections = append(info.sections, si)
	}
	return n, b.endPart(info, dir)
}

// load reads a source's dictionary into d, if it fits or is the first, and
// keeps nothing of it but what became of its ids.
func (m *merger) load(ctx context.Context, src *mergeSource, d *mergeDict) (fits bool, err error) {
	p, err := src.openPart(m.s)
	if err != nil {
		return false, err
	}
	if err := m.s.keeper.pace(ctx, streamBytes(p.dir.streams)); err != nil {
		return false, err
	}
	// Past the cache of those that queries ask for.
	err = p.loadStreams(func(raw [][]byte) error {
		return readCore(&p.tables, raw[0], raw[1], raw[2])
	}, secNames, secFuncTree, secSeriesNode)
	if err != nil {
		return false, p.damaged(err)
	}
	p.loaded = loadedCore
	if err := p.load(loadedDetail); err != nil {
		return false, err
	}
	t := &p.tables
	ids := int64(4 * (len(t.series) + len(t.metaSets) + len(t.processes) + len(t.forms)))
	if len(d.leaves) > 0 && d.memory()+t.mergedBytes()+ids > m.s.o.MergeBytes {
		return false, nil
	}
	src.part, src.ids = p, d.add(t)
	d.bytes += ids
	p.tables = tables{}
	return true, nil
}

func streamBytes(list []stream) (n int) {
	for i := range list {
		n += int(list[i].size)
	}
	return n
}
