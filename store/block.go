package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// block is one block of the catalog. Its blob is open while a view holds it.
type block struct {
	info  *blockInfo // but for rolled, it never changes
	blobs Blobs
	cuts  []cut // what of it is deleted and still there; Store.mu guards it, a slice never changes

	mu     sync.Mutex
	refs   int
	blob   Blob
	doomed bool // not in the catalog any more: the file goes with the last reference
}

// ripe says whether something is at least so old. What is as far in the future
// was made when the clock was wrong: nobody is to wait for that time.
func ripe(created int64, now time.Time, age time.Duration) bool {
	return now.Sub(unixTime(created)).Abs() >= age
}

func (b *block) acquire() {
	b.mu.Lock()
	b.refs++
	b.mu.Unlock()
}

// hold is acquire for a block that may be doomed already: then its file is
// gone, and hold false.
func (b *block) hold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.doomed {
		return false
	}
	b.refs++
	return true
}

func (b *block) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refs--
	if b.refs > 0 {
		return
	}
	if b.blob != nil {
		_ = b.blob.Close() // it was only read
		b.blob = nil
	}
	if b.doomed {
		_ = b.blobs.Delete(b.info.id) // what stays is deleted at the next start: no row names it
	}
}

// doom deletes the file of a block that has left the catalog, now or when
// nobody reads it any more.
func (b *block) doom() {
	b.acquire()
	b.mu.Lock()
	b.doomed = true
	b.mu.Unlock()
	b.release()
}

// open opens the file if it is not open, and checks that a stream lies in it.
func (b *block) open(s *stream) (Blob, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blob == nil {
		blob, err := b.blobs.Open(b.info.id)
		if err != nil {
			return nil, fmt.Errorf("open: %w", err)
		}
		b.blob = blob
	}
	if b.info.size > 0 && s.offset+int64(s.size) > b.info.size {
		return nil, errors.New("stream lies beyond the end")
	}
	return b.blob, nil
}

// stored returns a stream with its bytes as they are. The block must be held.
func (b *block) stored(s *stream) (stream, error) {
	blob, err := b.open(s)
	if err != nil {
		return stream{}, err
	}
	out := *s
	out.data = make([]byte, s.size)
	if _, err := blob.ReadAt(out.data, s.offset); err != nil {
		return stream{}, fmt.Errorf("read: %w", err)
	}
	if checksum(out.data) != s.crc {
		return stream{}, fmt.Errorf("checksum of stream %d does not match", s.id)
	}
	return out, nil
}

// read returns an unpacked stream. The block must be held.
func (b *block) read(pk *packer, s *stream) ([]byte, error) {
	blob, err := b.open(s)
	if err != nil {
		return nil, err
	}
	if s.codec == codecRaw {
		data := make([]byte, s.size, int(s.size)+bitPad)
		if _, err := blob.ReadAt(data, s.offset); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		return unpackStream(pk, s, data)
	}
	// Only what it unpacks to is kept.
	data := pk.buffer(int(s.size))
	defer pk.done(data)
	if _, err := blob.ReadAt(*data, s.offset); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return unpackStream(pk, s, *data)
}

func unpackStream(pk *packer, s *stream, data []byte) ([]byte, error) {
	if checksum(data) != s.crc {
		return nil, fmt.Errorf("checksum of stream %d does not match", s.id)
	}
	return pk.unpack(data, s.codec, int(s.raw))
}

// blockWriter writes a block: begin, parts in the order of their services,
// then finish.
type blockWriter struct {
	pk     *packer
	w      io.Writer
	offset int64
	blockListing
	raw []byte
	key []storedKey // of all parts
}

// newBlockWriter begins a block.
func newBlockWriter(w io.Writer, pk *packer, id string, created int64, level uint8) (*blockWriter, error) {
	b := &blockWriter{pk: pk, w: w, blockListing: blockListing{id: id, created: created, level: level}}
	return b, b.write(binary.LittleEndian.AppendUint32([]byte(magicBlockHead), blockVersion))
}

// writeBlock writes the heads, sorted by service, to w and returns what the
// catalog keeps. Heads without rows leave no part, but their epochs are named.
func writeBlock(w io.Writer, pk *packer, id string, created int64, heads []*head) (*blockInfo, []storedKey, error) {
	b, err := newBlockWriter(w, pk, id, created, levelHead)
	if err != nil {
		return nil, nil, err
	}
	for _, h := range heads {
		b.epochs = append(b.epochs, h.epoch)
		if h.rows == 0 {
			continue
		}
		if err := b.part(h); err != nil {
			return nil, nil, err
		}
	}
	info, err := b.finish()
	return info, b.key, err
}

func (b *blockWriter) write(p []byte) error {
	n, err := b.w.Write(p)
	b.offset += int64(n)
	return err
}

// place writes the stored bytes of a stream and returns it as it is in the
// block.
func (b *blockWriter) place(s stream) (stream, error) {
	s.offset = b.offset
	err := b.write(s.data)
	s.data = nil
	return s, err
}

// part writes one head. Nobody else writes to it any more.
func (b *blockWriter) part(h *head) error {
	snap := h.snapshot()
	t := &snap.tables
	dir := &partDirectory{}
	if err := b.dictionary(dir, t); err != nil {
		return err
	}
	info := partInfo{service: h.service}
	for i := range snap.sections {
		s := &snap.sections[i]
		if len(s.groups) == 0 {
			continue
		}
		si := t.sectionInfo(&t.layouts[i])
		groups := make([]*group, len(s.groups))
		for j, g := range s.groups {
			var err error
			if groups[j], err = b.group(g, &si, uint32(len(info.sections))); err != nil {
				return err
			}
		}
		dir.sections = append(dir.sections, groups)
		info.sections = append(info.sections, si)
	}
	return b.endPart(info, dir)
}

// sectionInfo is what is known of the section of a layout before its rows are.
func (t *tables) sectionInfo(l *layout) sectionInfo {
	si := sectionInfo{kind: inquest.Kind(t.strings[l.kind])}
	for _, p := range l.types {
		si.sampleTypes = append(si.sampleTypes, [2]string{t.strings[p.name], t.strings[p.value]})
	}
	return si
}

// dictionary writes the dictionary of a part.
func (b *blockWriter) dictionary(dir *partDirectory, t *tables) error {
	for _, s := range dictionaryStreams(b.pk, t) {
		placed, err := b.place(s)
		if err != nil {
			return err
		}
		dir.streams = append(dir.streams, placed)
	}
	return nil
}

// group writes a row group of the part at hand and counts its rows in si.
func (b *blockWriter) group(g *group, si *sectionInfo, section uint32) (*group, error) {
	placed := &group{rows: g.rows, samples: g.samples, from: g.from, until: g.until, sets: g.sets}
	for i := range g.streams {
		st, err := b.place(g.streams[i])
		if err != nil {
			return nil, err
		}
		placed.streams = append(placed.streams, st)
	}
	for i, k := range g.keys {
		b.key = append(b.key, storedKey{k.key, k.hash, uint32(len(b.parts)), section, uint32(si.profiles + i)})
	}
	if si.profiles == 0 {
		si.from, si.until = g.from, g.until
	}
	si.profiles += g.rows
	si.from, si.until = min(si.from, g.from), max(si.until, g.until)
	return placed, nil
}

// endPart writes the directory of a part, whose streams are written.
func (b *blockWriter) endPart(info partInfo, dir *partDirectory) error {
	b.raw = appendPartDirectory(b.raw[:0], dir)
	var err error
	if info.directory, err = b.place(b.pk.stream(0, b.raw)); err != nil {
		return err
	}
	b.parts = append(b.parts, info)
	return nil
}

// finish writes keys, listing and footer, and returns what the catalog keeps.
func (b *blockWriter) finish() (*blockInfo, error) {
	sortKeys(b.key)
	b.keys = len(b.key)
	var err error
	b.raw = appendKeyList(b.raw[:0], b.key)
	if b.keyList, err = b.place(b.pk.stream(secKeys, b.raw)); err != nil {
		return nil, err
	}
	b.raw = appendKeyInfo(b.raw[:0], b.key)
	if b.keyInfo, err = b.place(b.pk.stream(secKeyInfo, b.raw)); err != nil {
		return nil, err
	}
	raw := appendListing(nil, &b.blockListing)
	at := listingPlace(raw, b.offset)
	footer := binary.LittleEndian.AppendUint64(nil, uint64(at.offset))
	footer = binary.LittleEndian.AppendUint64(footer, uint64(at.size))
	footer = binary.LittleEndian.AppendUint32(footer, at.crc)
	footer = binary.LittleEndian.AppendUint32(footer, blockVersion)
	footer = append(footer, magicBlockFoot...)
	if err := b.write(raw); err != nil {
		return nil, err
	}
	if err := b.write(footer); err != nil {
		return nil, err
	}
	return b.info(b.offset, at), nil
}

// listingPlace is where a listing stands; its stream id is the version of the
// block.
func listingPlace(raw []byte, offset int64) stream {
	return stream{id: blockVersion, codec: codecRaw, raw: uint32(len(raw)), size: uint32(len(raw)), crc: checksum(raw), offset: offset}
}

// findListing reads the footer of a block of the given size.
func findListing(r io.ReaderAt, size int64) (stream, error) {
	if size < blockHeaderSize+blockFooterSize {
		return stream{}, errors.New("file is too short for a block")
	}
	footer := make([]byte, blockFooterSize)
	if _, err := r.ReadAt(footer, size-blockFooterSize); err != nil {
		return stream{}, fmt.Errorf("read footer: %w", err)
	}
	if string(footer[24:]) != magicBlockFoot {
		return stream{}, errors.New("footer is damaged")
	}
	v := binary.LittleEndian.Uint32(footer[20:])
	if v == 0 || v > blockVersion {
		return stream{}, fmt.Errorf("version %d, this program reads up to %d", v, blockVersion)
	}
	off, n := binary.LittleEndian.Uint64(footer), binary.LittleEndian.Uint64(footer[8:])
	if n > maxListBytes || off > uint64(size) || off+n != uint64(size-blockFooterSize) {
		return stream{}, errors.New("footer is damaged")
	}
	return stream{
		id: uint8(v), codec: codecRaw, raw: uint32(n), size: uint32(n),
		crc: binary.LittleEndian.Uint32(footer[16:]), offset: int64(off),
	}, nil
}

// openListing reads a block's own listing, and where it stands.
func openListing(r io.ReaderAt, size int64) (*blockListing, stream, error) {
	at, err := findListing(r, size)
	if err != nil {
		return nil, at, err
	}
	raw := make([]byte, at.size)
	if _, err := r.ReadAt(raw, at.offset); err != nil {
		return nil, at, fmt.Errorf("read listing: %w", err)
	}
	if checksum(raw) != at.crc {
		return nil, at, errors.New("checksum of the listing does not match")
	}
	l, err := readListing(raw, uint32(at.id))
	return l, at, err
}

// dictionaryStreams packs a dictionary: what flame graphs need apart from
// files, lines and addresses.
func dictionaryStreams(pk *packer, t *tables) []stream {
	var raw []byte
	var out []stream
	add := func(id uint8, b []byte) {
		out = append(out, pk.stream(id, b))
		raw = b[:0]
	}
	add(secNames, appendNames(raw, t))
	add(secFuncTree, appendFuncTree(raw, t))
	add(secSeriesNode, appendSeriesNodes(raw, t))
	labels := subset{of: t.strings}
	sets := labels.labelSets(t)
	meta := subset{of: t.strings}
	raw = meta.meta(nil, t)
	metaRaw := appendStrings(nil, meta.text)
	metaRaw = append(metaRaw, raw...)
	add(secLabelText, appendStrings(nil, labels.text))
	add(secLabelSets, sets)
	add(secMeta, metaRaw)
	add(secStrings, appendRest(nil, t, &labels, &meta))
	m := t.marks()
	for _, s := range [...]struct {
		id    uint8
		table int
	}{{secFunctions, tabFunctions}, {secMappings, tabMappings}, {secLocations, tabLocations}, {secStacks, tabStacks}} {
		add(s.id, appendTable(raw, t, s.table, firstMarks[s.table], m[s.table]))
	}
	add(secSeriesLeaf, appendLeaves(raw, t))
	return out
}

func appendNames(dst []byte, t *tables) []byte {
	dst = appendStrings(dst, t.names[1:])
	for i := 1; i < len(t.names); i += 8 {
		var bits byte
		for j := i; j < min(i+8, len(t.names)); j++ {
			if t.noSymbol[j] {
				bits |= 1 << (j - i)
			}
		}
		dst = append(dst, bits)
	}
	return dst
}

func appendFuncTree(dst []byte, t *tables) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.funcUp)-1))
	for i := 1; i < len(t.funcUp); i++ {
		dst = binary.AppendUvarint(dst, uint64(i)-uint64(t.funcUp[i]))
	}
	return appendIDs(dst, t.funcName[1:])
}

func appendSeriesNodes(dst []byte, t *tables) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.series)))
	prev := uint32(0)
	for _, n := range t.series {
		dst = appendVarint(dst, int64(n)-int64(prev))
		prev = n
	}
	return appendIDs(dst, t.labelSet)
}

func appendLeaves(dst []byte, t *tables) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(t.leaves)))
	prev := uint32(0)
	for _, n := range t.leaves {
		dst = appendVarint(dst, int64(n)-int64(prev))
		prev = n
	}
	return dst
}

// subset is strings of a dictionary that some section keeps for itself.
type subset struct {
	of   []string
	text []string
	id   map[uint32]uint32 // string of the dictionary → position in text
}

func (s *subset) ref(id uint32) uint32 {
	if s.id == nil {
		s.id, s.text = map[uint32]uint32{0: 0}, []string{""}
	}
	n, ok := s.id[id]
	if !ok {
		n = uint32(len(s.text))
		s.id[id] = n
		s.text = append(s.text, s.of[id])
	}
	return n
}

func (s *subset) labelSets(t *tables) []byte {
	s.ref(0)
	moved := tables{labelEnds: t.labelEnds, labels: slices.Clone(t.labels)}
	for i := range moved.labels {
		l := &moved.labels[i]
		l.key, l.str, l.unit = s.ref(l.key), s.ref(l.str), s.ref(l.unit)
	}
	return appendTable(nil, &moved, tabLabelSets, firstMarks[tabLabelSets], uint32(len(t.labelEnds)))
}

// meta writes profile label sets, processes and forms.
func (s *subset) meta(dst []byte, t *tables) []byte {
	s.ref(0)
	moved := tables{}
	for _, set := range t.metaSets {
		set = slices.Clone(set)
		for i := range set {
			set[i] = pair{s.ref(set[i].name), s.ref(set[i].value)}
		}
		moved.metaSets = append(moved.metaSets, set)
	}
	for _, p := range t.processes {
		moved.processes = append(moved.processes, s.ref(p))
	}
	for _, f := range t.forms {
		for _, id := range [...]*uint32{&f.periodType, &f.periodUnit, &f.defaultType, &f.drop, &f.keep, &f.doc} {
			*id = s.ref(*id)
		}
		f.comments = slices.Clone(f.comments)
		for i := range f.comments {
			f.comments[i] = s.ref(f.comments[i])
		}
		moved.forms = append(moved.forms, f)
	}
	m := moved.marks()
	dst = appendTable(dst, &moved, tabMetaSets, 0, m[tabMetaSets])
	dst = appendTable(dst, &moved, tabProcesses, firstMarks[tabProcesses], m[tabProcesses])
	return appendTable(dst, &moved, tabForms, 0, m[tabForms])
}

// Where a string of the dictionary is.
const (
	textHere   = 0 // among the rest, in order
	textName   = 1 // a name of the function-level tree
	textLabels = 2 // in secLabelText
	textMeta   = 3 // in secMeta
)

// appendRest writes for every string where it is, and those that are nowhere
// else.
func appendRest(dst []byte, t *tables, labels, meta *subset) []byte {
	names := make(map[string]uint32, len(t.names))
	for i, s := range t.names {
		if !t.noSymbol[i] {
			names[s] = uint32(i)
		}
	}
	var rest []string
	var last [4]uint32
	dst = binary.AppendUvarint(dst, uint64(len(t.strings)-1))
	for id := uint32(1); id < uint32(len(t.strings)); id++ {
		where, at := uint64(textHere), uint32(0)
		if n, ok := names[t.strings[id]]; ok {
			where, at = textName, n
		} else if n, ok := labels.id[id]; ok {
			where, at = textLabels, n
		} else if n, ok := meta.id[id]; ok {
			where, at = textMeta, n
		} else {
			rest = append(rest, t.strings[id])
		}
		step := int64(at) - int64(last[where])
		last[where] = at
		dst = binary.AppendUvarint(dst, zigzag(step)<<2|where)
	}
	return appendStrings(dst, rest)
}
