package store

import "context"

// Reserve is asked for memory before it is taken on behalf of a reader: for so
// many bytes more or, if negative, less, which never fails. It may wait for
// others to give back, and fails where the memory cannot be had. It may be
// called by several goroutines at once.
type Reserve func(bytes int64) error

type reserveKey struct{}

// WithReserve returns a context under which View, and the methods of its
// parts, ask r before they decode something. What they ask for is estimated
// from sizes that are known beforehand and rather too much than too little.
// What is asked for stays with the reader, except what Part.Release gives
// back.
func WithReserve(ctx context.Context, r Reserve) context.Context {
	return context.WithValue(ctx, reserveKey{}, r)
}

func reserve(ctx context.Context, bytes int64) error {
	if r, ok := ctx.Value(reserveKey{}).(Reserve); ok && bytes != 0 {
		return r(bytes)
	}
	return nil
}

// Bytes of memory per item, or per byte of the unpacked stream it is decoded
// from: the smallest form of an entry and what it becomes.
const (
	viewPartBytes    = 2 << 10 // a part of a view
	viewSectionBytes = 512     // a section of it
	directoryFactor  = 6       // a place is 12 bytes or more there and 48 here
	readRowBytes     = 152     // a row, and what a query keeps for it; columns besides
	labelSetBytes    = 320     // a label set as rows name it, as it is and resolved
	labelSetLeast    = 12      // bytes of one in its stream
	metaFactor       = 3       // label sets, processes and forms
	textFactor       = 3       // strings: their bytes, headers, and the stream itself
	treeFactor       = 5       // ids of one or two bytes that become four
	detailFactor     = 9       // mappings, locations, lines
	functionFactor   = 20      // functions, and where they are by name
	nodeSumBytes     = 24      // per node: sums of a query and of a subset of it
	seriesSumBytes   = 20      // per series: sums and counts
	sampleBytes      = 16      // per sample of a group: value, series and packed
)

// Pieces of a part that memory was asked for.
const (
	chargedCore = 1 << iota
	chargedLabels
	chargedDetail
	chargedSums
	chargedExport
)

// headPartBytes is what the part of a head takes in a view.
const headPartBytes = viewPartBytes + 4*viewSectionBytes

// reserveHeads asks for the parts of heads. s.mu must not be held: it may
// take long.
func (s *Store) reserveHeads(ctx context.Context, sel *Selection) error {
	n := int64(0)
	s.mu.RLock()
	for _, h := range s.allHeads() {
		if !sel.Digests && sel.Services.wants(h.service) {
			n++
		}
	}
	s.mu.RUnlock()
	return reserve(ctx, n*headPartBytes)
}

// viewBytes is what a part takes in a view.
func (p *partInfo) viewBytes() int64 {
	return viewPartBytes + viewSectionBytes*int64(len(p.sections)) + directoryFactor*int64(p.directory.raw)
}

// reserveRows asks for the rows of a section.
func (p *Part) reserveRows(ctx context.Context, sec *partSection) error {
	n := int64(sec.n) * (readRowBytes + 8*int64(sec.cols))
	sets := int64(len(p.tables.metaSets))
	if p.block != nil {
		sets = p.raw(secMeta) / labelSetLeast
		n += metaFactor * p.raw(secMeta)
	}
	return reserve(ctx, n+labelSetBytes*min(sets, int64(sec.n)))
}

// reserveLabelSets asks for the label sets of a section, as LabelSets returns
// them.
func (p *Part) reserveLabelSets(ctx context.Context) error {
	if p.block == nil {
		return reserve(ctx, labelSetBytes*int64(len(p.tables.metaSets)))
	}
	return reserve(ctx, (metaFactor+labelSetBytes/labelSetLeast)*p.raw(secMeta))
}

// reserveOnce asks for a piece of the part, unless it was asked for.
func (p *Part) reserveOnce(ctx context.Context, piece uint8, bytes int64) error {
	if p.charged&piece != 0 {
		return nil
	}
	if err := p.reserveMore(ctx, bytes); err != nil {
		return err
	}
	p.charged |= piece
	return nil
}

// reserveLoad asks for pieces of the dictionary, before load.
func (p *Part) reserveLoad(ctx context.Context, want uint8) error {
	if p.block == nil {
		return nil // a head's is there, whoever reads it
	}
	if want&(loadedDetail|loadedLabels) != 0 {
		want |= loadedCore
	}
	if want&loadedDetail != 0 {
		want |= loadedLabels
	}
	for _, l := range [...]struct {
		loaded, piece uint8
		bytes         int64
	}{
		{loadedCore, chargedCore, textFactor*p.raw(secNames) + treeFactor*(p.raw(secFuncTree)+p.raw(secSeriesNode))},
		{loadedLabels, chargedLabels, textFactor*p.raw(secLabelText) + detailFactor*p.raw(secLabelSets)},
		{loadedDetail, chargedDetail, textFactor*p.raw(secStrings) +
			functionFactor*p.raw(secFunctions) + detailFactor*(p.raw(secMappings)+p.raw(secLocations)) + treeFactor*(p.raw(secStacks)+p.raw(secSeriesLeaf))},
	} {
		if want&l.loaded == 0 {
			continue
		}
		if err := p.reserveOnce(ctx, l.piece, l.bytes); err != nil {
			return err
		}
	}
	return nil
}

// raw is the size of a stream of the dictionary once unpacked.
func (p *Part) raw(id uint8) int64 {
	if s := p.dir.stream(id); s != nil {
		return int64(s.raw)
	}
	return 0
}

// reserveSums asks for what Self adds up in; the dictionary is loaded.
func (p *Part) reserveSums(ctx context.Context) error {
	t := &p.tables
	return p.reserveOnce(ctx, chargedSums, nodeSumBytes*int64(len(t.funcUp))+seriesSumBytes*int64(len(t.series))+sampleBytes*p.largest())
}

// reserveExport asks for what Export works with; the dictionary is loaded.
func (p *Part) reserveExport(ctx context.Context, sec *partSection) error {
	t := &p.tables
	ids := len(t.strings) + len(t.functions) + len(t.mappings) + len(t.locations)
	return p.reserveOnce(ctx, chargedExport, 8*int64(ids)+12*int64(len(t.stackUp))+(sampleBytes+16*int64(sec.cols))*p.largest())
}

// reserveSum asks for what Sum adds up in; series are loaded.
func (p *Part) reserveSum(ctx context.Context, sec *partSection) error {
	if err := p.reserveSums(ctx); err != nil {
		return err
	}
	return p.reserveMore(ctx, (8+8*int64(sec.cols))*int64(len(p.tables.series)))
}

// reserveSamples asks for the columns of a profile that is a sum.
func (p *Part) reserveSamples(ctx context.Context, samples, frames, labels, cols int) error {
	return p.reserveMore(ctx, int64(8+8*cols)*int64(samples)+4*int64(frames)+24*int64(labels))
}

// reserveMore asks for what is not asked for once only.
func (p *Part) reserveMore(ctx context.Context, bytes int64) error {
	if err := reserve(ctx, bytes); err != nil {
		return err
	}
	p.held += bytes
	return nil
}

// largest is the number of samples of the largest group.
func (p *Part) largest() (n int64) {
	for i := range p.sections {
		for _, g := range p.sections[i].groups {
			n = max(n, g.samples)
		}
		for _, r := range p.sections[i].rows {
			n = max(n, int64(r.samples))
		}
	}
	return n
}

// Release forgets what the part has decoded of its dictionary and gives back
// the memory that was asked for it; the part can still be used. What methods
// returned stays valid, and is the reader's to account for.
func (p *Part) Release(ctx context.Context) {
	if p.block != nil {
		p.tables, p.loaded, p.resolved = tables{}, 0, false
	}
	p.scratch = nil
	_ = reserve(ctx, -p.held) // giving back does not fail
	p.held, p.charged = 0, 0
}
