package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/goinquest/inquest/profile"
)

// FaultyFiles is a file system of which writes, syncs and renames fail when
// told to.
type FaultyFiles struct {
	osFiles
	Full     atomic.Bool  // writes fail with ENOSPC after a part was written
	NoSync   atomic.Bool  // syncs of log files fail with EIO
	NoRename atomic.Bool  // renames fail with EIO
	FreeNow  atomic.Int64 // what Free says; 0 = the truth
	Panic    atomic.Int64 // the write to a block that panics, from 1; 0 = none
	Faults   atomic.Int64
}

// WithFiles makes a store use f.
func WithFiles(f *FaultyFiles) func(*Options) { return func(o *Options) { o.files = f } }

func (f *FaultyFiles) Free(dir string) (int64, error) {
	if n := f.FreeNow.Load(); n != 0 {
		return n, nil
	}
	return f.osFiles.Free(dir)
}

func (f *FaultyFiles) Rename(from, to string) error {
	if f.NoRename.Load() {
		f.Faults.Add(1)
		return &os.PathError{Op: "rename", Path: from, Err: syscall.EIO}
	}
	return f.osFiles.Rename(from, to)
}

func (f *FaultyFiles) OpenFile(name string, flag int, perm os.FileMode) (file, error) {
	inner, err := f.osFiles.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultyFile{inner, f, strings.HasSuffix(name, logSuffix), strings.HasSuffix(name, blockSuffix+tempSuffix)}, nil
}

type faultyFile struct {
	file
	f   *FaultyFiles
	log bool
	blk bool
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.blk && f.f.Panic.Add(-1) == 0 {
		panic("a write to a block")
	}
	if f.f.Full.Load() {
		f.f.Faults.Add(1)
		n, err := f.file.Write(p[:len(p)/2])
		return n, errors.Join(err, &os.PathError{Op: "write", Err: syscall.ENOSPC})
	}
	return f.file.Write(p)
}

func (f *faultyFile) Datasync() error {
	if f.log && f.f.NoSync.Load() {
		f.f.Faults.Add(1)
		return &os.PathError{Op: "fdatasync", Err: syscall.EIO}
	}
	return f.file.Datasync()
}

// ReadBlock reads everything in a block's bytes. Without sums checksums are
// not looked at, so that damage reaches what lies behind them.
func ReadBlock(data []byte, sums bool) error {
	info, _, err := openListing(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	pk := newPacker()
	get := func(s *stream) ([]byte, error) {
		if s == nil || s.offset+int64(s.size) > int64(len(data)) {
			return nil, errGroup
		}
		stored := data[s.offset:][:s.size]
		if !sums {
			return pk.unpack(stored, s.codec, int(s.raw))
		}
		return unpackStream(pk, s, stored)
	}
	var errs []error
	if raw, err := get(&info.keyList); err == nil {
		_, err = readKeyRuns(raw)
		errs = append(errs, err)
	}
	if raw, err := get(&info.keyInfo); err == nil && info.keys > 0 {
		_, err = readKeyInfo(raw, info.keys, info.keys-1)
		errs = append(errs, err)
		_, err = readBodyHashes(raw, info)
		errs = append(errs, err)
	}
	for i := range info.parts {
		raw, err := get(&info.parts[i].directory)
		if err == nil {
			err = readPart(raw, &info.parts[i], get)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func readPart(directory []byte, info *partInfo, get func(*stream) ([]byte, error)) error {
	dir, err := readPartDirectory(directory)
	if err != nil {
		return err
	}
	part := func(id uint8) []byte {
		raw, _ := get(dir.stream(id))
		return raw
	}
	return readParsed(dir, info, part, func(g *group, id uint8) ([]byte, error) { return get(g.stream(id)) })
}

func readParsed(dir *partDirectory, info *partInfo, part func(uint8) []byte, stream func(*group, uint8) ([]byte, error)) error {
	var t tables
	errs := []error{
		readCore(&t, part(secNames), part(secFuncTree), part(secSeriesNode)),
		readLabels(&t, part(secLabelText), part(secLabelSets)),
		readMeta(&t, part(secMeta)),
	}
	rolled := part(secFuncInfo) != nil
	if rolled {
		_, err := readFuncInfo(part(secFuncInfo), len(t.names))
		errs = append(errs, err)
	}
	if !rolled && errors.Join(errs...) == nil {
		errs = append(errs, readDetail(&t, func(id uint8) ([]byte, error) { return part(id), nil }))
	}
	if errors.Join(errs...) == nil {
		newMergeDict().add(&t)
	}
	var s shape
	var r columnReader
	for i, groups := range dir.sections {
		if i >= len(info.sections) {
			break
		}
		for _, g := range groups {
			get := func(id uint8) ([]byte, error) { return stream(g, id) }
			cols := len(info.sections[i].sampleTypes)
			raw, err := get(streamRows)
			var rows []row
			if err == nil {
				rows, err = readRows(raw, g.rows, cols, rowLimits{len(t.metaSets), len(t.processes), len(t.forms)})
			}
			errs = append(errs, err)
			if err == nil && rolled {
				if raw, err = get(streamCells); err == nil {
					err = readCells(raw, rows, len(t.processes))
				}
				errs = append(errs, err)
			}
			if err == nil && info.sections[i].digest {
				errs = append(errs, readDigests(get, rows, cols, len(t.names)))
				continue
			}
			if raw, err = get(streamSeries); err == nil {
				err = s.read(raw, g.rows, len(t.series))
			}
			errs = append(errs, err)
			for c := 0; c < cols && err == nil; c++ {
				_, err := r.read(get, &s, c)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// DictSections unpacks the dictionary of a block's first part, as ReadDict
// takes it.
func DictSections(data []byte) (out []byte) {
	info, _, err := openListing(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		panic(err)
	}
	pk := newPacker()
	get := func(s *stream) []byte {
		raw, err := unpackStream(pk, s, data[s.offset:][:s.size])
		if err != nil {
			panic(err)
		}
		return raw
	}
	dir, err := readPartDirectory(get(&info.parts[0].directory))
	if err != nil {
		panic(err)
	}
	for i := range dir.streams {
		raw := get(&dir.streams[i])
		out = binary.AppendUvarint(append(out, dir.streams[i].id), uint64(len(raw)))
		out = append(out, raw...)
	}
	return out
}

// ReadDict reads the sections of a part's dictionary: id, length, bytes each.
func ReadDict(data []byte) error {
	sections := map[uint8][]byte{}
	for c := (cursor{b: data}); len(c.b) > 0; {
		id := c.byte()
		sections[id] = c.bytes(c.count())
	}
	return readParsed(&partDirectory{}, &partInfo{}, func(id uint8) []byte { return sections[id] }, nil)
}

// ScanLog reads a log file's bytes as replay does, and returns how many
// profiles it has.
func ScanLog(data []byte) int {
	pk := newPacker()
	w := &fileWindow{r: bytes.NewReader(data), size: int64(len(data))}
	heads := map[uint64]*dict{}
	n := 0
	for at := int64(logHeaderSize); at < w.size; {
		fr, err := readFrameAt(w, at)
		if err != nil {
			if at = findFrame(w, at+1); at < 0 {
				break
			}
			continue
		}
		r := &replay{s: &Store{pk: pk}}
		recs, payload, err := r.readFrame(bytes.NewReader(data), framePlace{offset: at, size: fr.size})
		at += fr.size
		if err != nil {
			continue
		}
		for i := range recs {
			x := &recs[i]
			if heads[x.epoch] == nil {
				heads[x.epoch] = newDict()
			}
			if readRecord(heads[x.epoch], x, payload[:x.size]) {
				n++
			}
			payload = payload[x.size+x.state:]
		}
	}
	return n
}

func readRecord(d *dict, x *indexed, payload []byte) bool {
	c := cursor{b: payload}
	if readGrowth(&c, d) != nil {
		return false
	}
	layout := c.id(len(d.layouts))
	if c.bad {
		return false
	}
	var s samples
	readRow(&c, &row{start: x.start, samples: x.samples}, &d.tables, len(d.layouts[layout].types), &s)
	return !c.bad
}

// ReadGrowth reads the payload of a log record into an empty dictionary.
func ReadGrowth(payload []byte, samples uint32) bool {
	return readRecord(newDict(), &indexed{samples: samples}, payload)
}

// ReadGroup reads the streams of a row group: series and columns.
func ReadGroup(series, values, bits, sizes, rest []byte, rows, limit int) int64 {
	var s shape
	if s.read(series, rows, limit) != nil {
		return 0
	}
	get := func(id uint8) ([]byte, error) {
		switch id {
		case streamSizes:
			return sizes, nil
		case columnStream(0, streamValues):
			return values, nil
		case columnStream(0, streamBits):
			return bits, nil
		case columnStream(0, streamRest):
			return rest, nil
		case columnStream(1, streamValues):
			return append([]byte{valuesCountBytes}, rest...), nil
		}
		return nil, errGroup
	}
	var r columnReader
	sum := int64(0)
	for col := range 2 {
		vals, err := r.read(get, &s, col)
		if err != nil {
			continue
		}
		s.each(func(k, row int, id uint32) { sum += vals[k] + int64(row) + int64(id) })
	}
	if rows > 0 {
		if list, err := readRows(series, rows, 2, rowLimits{limit, limit, limit}); err == nil {
			sum += list[0].start
		}
		sum += mergeGroupOf(get, s.rows, limit, map[uint8][]byte{streamRows: series, streamSeries: series})
	}
	return sum
}

// mergeGroupOf unpacks a group of two columns as merging does.
func mergeGroupOf(get fetch, rows, limit int, streams map[uint8][]byte) int64 {
	for col := range 2 {
		for which := range streamsPerColumn {
			id := columnStream(col, which)
			if raw, err := get(id); err == nil {
				streams[id] = raw
			}
		}
	}
	streams[streamSizes], _ = get(streamSizes)
	g := &group{rows: rows}
	for id, raw := range streams {
		g.streams = append(g.streams, newStream(id, codecRaw, raw, len(raw)))
	}
	ids := make([]uint32, min(limit, 1<<16))
	src := &mergeSource{part: &Part{s: &Store{pk: newPacker()}}, ids: &remap{series: ids, labels: ids, processes: ids, forms: ids}}
	o := &openGroup{}
	if newMerger(src.part.s).read(o, &mergeGroup{from: src, group: g}, 2) != nil {
		return 0
	}
	return int64(len(o.ids) + len(o.vals))
}

// Interner is the part of a head that finds series, alone.
type Interner struct {
	in     *interner
	b      *body
	totals []int64
	out    []byte
}

func NewInterner() *Interner {
	s := newSeeds()
	return &Interner{in: newInterner(s), b: &body{seeds: s}}
}

// Add interns a profile and packs its samples.
func (x *Interner) Add(p *profile.Profile) (bytes int) {
	x.b.hash(p)
	x.in.samples(x.b)
	x.totals = resize(x.totals, len(p.SampleTypes))
	x.out = appendSamples(x.out[:0], x.b, x.totals)
	return len(x.out)
}

// Unpacked returns the bytes of a file with those of the streams of a block,
// and of the frames of a log, unpacked.
func Unpacked(data []byte) []byte {
	out := bytes.Clone(data)
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true))
	if err != nil {
		panic(err)
	}
	defer d.Close()
	for at := 0; at < len(data); {
		i := bytes.Index(data[at:], []byte{0x28, 0xb5, 0x2f, 0xfd}) // zstd
		if i < 0 {
			break
		}
		at += i
		raw, _ := d.DecodeAll(data[at:], nil) // up to where no frame follows
		out = append(out, raw...)
		at += 4
	}
	return out
}

type memoryBlob struct{ *bytes.Reader }

func (memoryBlob) Close() error           { return nil }
func (b memoryBlob) Size() (int64, error) { return b.Reader.Size(), nil }

// CheckBlock checks a block's bytes, deeply, as if its id were what it says,
// and returns how many problems there are.
func CheckBlock(data []byte) int {
	c := &checker{
		o: CheckOptions{Deep: true}, ctx: context.Background(), pk: newPacker(), content: newCatalogContent(),
		report: &CheckReport{}, blocks: map[string]*checkedBlock{},
	}
	row := &blockInfo{id: "x"}
	if list, at, err := openListing(bytes.NewReader(data), int64(len(data))); err == nil {
		row = list.info(int64(len(data)), at)
	}
	r := &blockReader{c: c, id: row.id, blob: memoryBlob{bytes.NewReader(data)}, size: int64(len(data))}
	r.check(row, &checkedBlock{row: row, parts: map[int]bool{}})
	return len(c.report.Problems)
}
