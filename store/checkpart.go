package store

import (
	"errors"
	"fmt"
)

// blockWalk reads the parts of a block and gathers what its keys must be. Of
// streams whose id it does not know it verifies the checksums.
type blockWalk struct {
	r    *blockReader
	list *blockListing
	out  *checkedBlock

	keyed  []storedKey // of all rows that could be read; without hashes
	shape  shape
	column columnReader
	digest digestReader
	sums   []int64
}

// maxPartProblems bounds what is reported of one part: it is lost by the
// first already.
const maxPartProblems = 5

// partWalk is one part being read.
type partWalk struct {
	*blockWalk
	index int
	info  *partInfo
	dir   *partDirectory
	t     tables
	deep  bool
	errs  []error
}

// fail notes what is wrong with a piece of the part.
func (w *partWalk) fail(err error, format string, args ...any) {
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf(format+": %w", append(args, err)...))
	}
}

func (b *blockWalk) part(i int) {
	w := &partWalk{blockWalk: b, index: i, info: &b.list.parts[i], deep: b.r.c.o.Deep}
	key := fmt.Sprintf("%s/%d", b.r.id, i)
	_, known := b.r.c.content.marks[key]
	// What was wrong may lie behind a checksum that is right.
	w.deep = w.deep || known
	from := len(b.keyed)
	w.read()
	if len(w.errs) == 0 {
		for j := range w.info.sections {
			if w.info.sections[j].resolution == Raw {
				b.r.c.report.Profiles += int64(w.info.sections[j].profiles)
			}
		}
		w.space(&b.r.c.report.Space)
		return
	}
	b.keyed = b.keyed[:from]
	b.out.parts[i] = true
	w.report(key, known)
}

// space adds what the part takes.
func (w *partWalk) space(s *CheckSpace) {
	names := &s.Dictionaries
	if w.rollup() {
		names = &s.RollupNames
	}
	*names += int64(w.info.directory.size) + int64(streamBytes(w.dir.streams))
	for i, groups := range w.dir.sections {
		to := [...]*int64{Raw: &s.Profiles, FiveMinutes: &s.FiveMinutes, Hour: &s.Hours, Day: &s.Days}[w.info.sections[i].resolution]
		switch {
		case w.info.sections[i].digest:
			to = &s.Digests
		case w.info.sections[i].fleet:
			to = &s.Fleet
		}
		for _, g := range groups {
			*to += int64(streamBytes(g.streams))
		}
	}
}

// report reports a damaged part: what is lost with the first problem.
func (w *partWalk) report(key string, known bool) {
	c := w.r.c
	p := CheckProblem{
		Where: fmt.Sprintf("%s part %d", blockFile(w.r.id), w.index), What: w.errs[0].Error(), Known: known,
		Lost: w.loss(), Repair: "the part is left out of answers; the file stays",
	}
	if known {
		p.Repair = ""
		c.problem(p)
		return
	}
	n := c.problem(p)
	c.mark(n, key, w.errs[0])
	for i, err := range w.errs[1:] {
		p := CheckProblem{Where: p.Where, What: err.Error(), Repair: p.Repair}
		if i+2 == maxPartProblems && len(w.errs) > maxPartProblems {
			p.What = fmt.Sprintf("%d more pieces are damaged", len(w.errs)-maxPartProblems+1)
		}
		c.mark(c.problem(p), key, w.errs[0])
		if i+2 == maxPartProblems {
			break
		}
	}
}

// loss is what a part holds.
func (w *partWalk) loss() *CheckLoss {
	l := &CheckLoss{Rollups: w.list.level == levelRollup}
	if w.info.service != "" {
		l.Services = []string{w.info.service}
	}
	for i := range w.info.sections {
		s := &w.info.sections[i]
		if s.resolution == Raw {
			l.Profiles += int64(s.profiles)
		}
		if from := unixTime(s.from); i == 0 || from.Before(l.From) {
			l.From = from
		}
		if until := unixTime(s.until); i == 0 || until.After(l.Until) {
			l.Until = until
		}
	}
	return l
}

func (w *partWalk) read() {
	w.r.use(&w.info.directory)
	raw, err := w.r.load(&w.info.directory)
	if err == nil {
		w.dir, err = readPartDirectory(raw)
	}
	if err == nil && len(w.dir.sections) != len(w.info.sections) {
		err = errDirectory
	}
	if err != nil {
		w.fail(err, "directory at byte %d", w.info.directory.offset)
		return
	}
	w.dictionary()
	decode := len(w.errs) == 0
	for i, groups := range w.dir.sections {
		w.section(i, groups, decode)
	}
}

func (b *blockWalk) rollup() bool { return b.list.level == levelRollup }

// dictionaryPiece is some streams of a dictionary that are read together.
type dictionaryPiece struct {
	what string
	ids  []uint8
	read func(raw map[uint8][]byte) error
}

// pieces lists what the part's dictionary has: first what rows need.
func (w *partWalk) pieces() []dictionaryPiece {
	t := &w.t
	pieces := []dictionaryPiece{
		{"tables of rows", []uint8{secMeta}, func(raw map[uint8][]byte) error { return readMeta(t, raw[secMeta]) }},
		{"function-level tree", []uint8{secNames, secFuncTree, secSeriesNode}, func(raw map[uint8][]byte) error {
			return readCore(t, raw[secNames], raw[secFuncTree], raw[secSeriesNode])
		}},
		{"sample labels", []uint8{secLabelText, secLabelSets}, func(raw map[uint8][]byte) error {
			return readLabels(t, raw[secLabelText], raw[secLabelSets])
		}},
	}
	if w.rollup() {
		return append(pieces, dictionaryPiece{"files of functions", []uint8{secFuncInfo}, func(raw map[uint8][]byte) error {
			_, err := readFuncInfo(raw[secFuncInfo], len(t.names))
			return err
		}})
	}
	detail := []uint8{secStrings, secFunctions, secMappings, secLocations, secStacks, secSeriesLeaf}
	return append(pieces, dictionaryPiece{"strings to stacks", detail, func(raw map[uint8][]byte) error {
		return readDetail(t, func(id uint8) ([]byte, error) { return raw[id], nil })
	}})
}

// dictionary verifies the dictionary's streams. It decodes what rows need, and
// everything if the check is deep.
func (w *partWalk) dictionary() {
	pieces := w.pieces()
	if !w.deep {
		pieces = pieces[:1]
	}
	need := map[uint8]bool{}
	for _, p := range pieces {
		for _, id := range p.ids {
			need[id] = true
		}
	}
	raw := map[uint8][]byte{}
	for i := range w.dir.streams {
		s := &w.dir.streams[i]
		w.r.use(s)
		var err error
		if need[s.id] {
			raw[s.id], err = w.r.load(s)
		} else {
			err = w.r.sum(s)
		}
		w.fail(err, "dictionary stream %d at byte %d", s.id, s.offset)
	}
	for _, p := range w.pieces() {
		for _, id := range p.ids {
			if w.dir.stream(id) == nil {
				w.fail(errors.New("is missing"), "dictionary stream %d", id)
			}
		}
	}
	for _, p := range pieces {
		if len(w.errs) > 0 {
			return
		}
		w.fail(p.read(raw), "dictionary, %s", p.what)
	}
}

// section reads the groups of a section. Without the dictionary rows cannot
// be decoded.
func (w *partWalk) section(i int, groups []*group, decode bool) {
	info := &w.info.sections[i]
	n, from, until := 0, int64(0), int64(0)
	for j, g := range groups {
		if w.r.c.ctx.Err() != nil {
			return
		}
		where := fmt.Sprintf("section %d (%s) group %d", i, info.kind, j)
		if decode {
			w.group(g, i, n, where)
		} else {
			w.checksums(g, where)
		}
		if j == 0 {
			from, until = g.from, g.until
		}
		n, from, until = n+g.rows, min(from, g.from), max(until, g.until)
	}
	if n != info.profiles || n > 0 && (from != info.from || until != info.until) {
		w.fail(errors.New("the groups have others"), "section %d (%s) of %d rows from %s to %s", i, info.kind, info.profiles, unixTime(info.from), unixTime(info.until))
	}
}

// checksums verifies the checksums of a group's streams.
func (w *partWalk) checksums(g *group, where string) {
	for i := range g.streams {
		w.r.use(&g.streams[i])
		w.fail(w.r.sum(&g.streams[i]), "%s stream %d at byte %d", where, g.streams[i].id, g.streams[i].offset)
	}
}

// group reads a group, whose first row is number first of the section.
func (w *partWalk) group(g *group, section, first int, where string) {
	info := &w.info.sections[section]
	cols := len(info.sampleTypes)
	raw, ok := w.streams(g, cols, where)
	if !ok {
		return
	}
	rows, err := readRows(raw[streamRows], g.rows, cols, rowLimits{len(w.t.metaSets), len(w.t.processes), len(w.t.forms)})
	if err == nil && w.rollup() {
		err = readCells(raw[streamCells], rows, len(w.t.processes))
	}
	if err == nil {
		err = checkRows(rows, g)
	}
	if err != nil {
		w.fail(err, "%s, rows", where)
		return
	}
	if !w.rollup() {
		for i := range rows {
			w.keyed = append(w.keyed, storedKey{key: rows[i].key, part: uint32(w.index), section: uint32(section), row: uint32(first + i)})
		}
	}
	get := func(id uint8) ([]byte, error) {
		b, ok := raw[id]
		if !ok {
			return nil, fmt.Errorf("stream %d is missing", id)
		}
		return b, nil
	}
	switch {
	case !w.deep:
	case info.digest:
		w.fail(w.digest.read(get, rows, cols, len(w.t.names)), "%s, digests", where)
	default:
		w.values(get, rows, cols, where)
	}
}

// streams verifies the streams of a group and unpacks those that are decoded.
func (w *partWalk) streams(g *group, cols int, where string) (raw map[uint8][]byte, ok bool) {
	raw = map[uint8][]byte{}
	need := []uint8{streamRows, streamSeries}
	if w.rollup() {
		need = append(need, streamCells)
	}
	before := len(w.errs)
	for i := range g.streams {
		s := &g.streams[i]
		w.r.use(s)
		values := s.id >= streamColumn && int(s.id) < streamColumn+cols*streamsPerColumn
		var err error
		if s.id == streamRows || s.id == streamCells || w.deep && (s.id == streamSeries || s.id == streamSizes || values) {
			raw[s.id], err = w.r.load(s)
		} else {
			err = w.r.sum(s)
		}
		w.fail(err, "%s stream %d at byte %d", where, s.id, s.offset)
	}
	for _, id := range need {
		if g.stream(id) == nil {
			w.fail(errors.New("is missing"), "%s stream %d", where, id)
		}
	}
	return raw, len(w.errs) == before
}

// checkRows compares rows with what the directory says of their group.
func checkRows(rows []row, g *group) error {
	samples := int64(0)
	for i := range rows {
		samples += int64(rows[i].samples)
		if rows[i].start < g.from || rows[i].start > g.until {
			return fmt.Errorf("row %d starts outside the group's time", i)
		}
	}
	if samples != g.samples {
		return fmt.Errorf("%d samples, the group has %d", samples, g.samples)
	}
	return nil
}

// values decodes every value of a group: each row's must add up to its totals.
func (w *partWalk) values(get fetch, rows []row, cols int, where string) {
	s := &w.shape
	raw, err := get(streamSeries)
	if err == nil {
		err = s.read(raw, len(rows), len(w.t.series))
	}
	if err != nil {
		w.fail(err, "%s, series", where)
		return
	}
	w.sums = resize(w.sums, len(rows))
	clear(w.sums)
	s.each(func(_, row int, _ uint32) { w.sums[row]++ })
	for i := range rows {
		if w.sums[i] != int64(rows[i].samples) {
			w.fail(fmt.Errorf("%d samples, want %d", w.sums[i], rows[i].samples), "%s row %d", where, i)
			return
		}
	}
	for c := range cols {
		vals, err := w.column.read(get, s, c)
		if err == nil && len(vals) != s.n {
			err = errGroup
		}
		if err != nil {
			w.fail(err, "%s column %d", where, c)
			continue
		}
		clear(w.sums)
		s.each(func(k, row int, _ uint32) { w.sums[row] += vals[k] })
		for i := range rows {
			if w.sums[i] != rows[i].totals[c] {
				w.fail(fmt.Errorf("values add up to %d, the row says %d", w.sums[i], rows[i].totals[c]), "%s row %d column %d", where, i, c)
				break
			}
		}
	}
}
