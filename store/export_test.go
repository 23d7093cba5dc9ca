package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"

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
	return &faultyFile{inner, f, strings.HasSuffix(name, logSuffix)}, nil
}

type faultyFile struct {
	file
	f   *FaultyFiles
	log bool
}

func (f *faultyFile) Write(p []byte) (int, error) {
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
	if errors.Join(errs...) == nil {
		errs = append(errs, readDetail(&t, func(id uint8) ([]byte, error) { return part(id), nil }))
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
			if err == nil {
				_, err = readRows(raw, g.rows, cols, rowLimits{len(t.metaSets), len(t.processes), len(t.forms)})
			}
			errs = append(errs, err)
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
	}
	return sum
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

// Dir is the store's directory.
func (s *Store) Dir() string { return s.o.Dir }

// CatalogEntries spells what a catalog's file holds.
func CatalogEntries(path string) (string, error) {
	db, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer db.Close()
	st, err := db.Stat()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	p := &catalogPages{r: db, entry: func(bucket string, k, v []byte) error {
		fmt.Fprintf(&out, "%s %x %x\n", bucket, k, v)
		return nil
	}}
	err = p.read(st.Size())
	return out.String(), err
}

// Recast puts another block in the place of each of level 0, as merging does
// with several.
func (s *Store) Recast(ctx context.Context) error {
	s.mu.RLock()
	blocks := slices.Clone(s.blocks)
	for _, b := range blocks {
		b.acquire()
	}
	s.mu.RUnlock()
	var errs []error
	for _, b := range blocks {
		if b.info.level == levelHead {
			errs = append(errs, s.recast(ctx, b))
		}
		b.release()
	}
	return errors.Join(errs...)
}

func (s *Store) recast(ctx context.Context, b *block) error {
	list, err := s.listing(b)
	if err != nil {
		return err
	}
	raw, err := b.read(s.pk, &list.keyInfo)
	if err != nil {
		return err
	}
	keys, err := readKeyPlaces(raw, list.keys)
	if err != nil {
		return err
	}
	if raw, err = b.read(s.pk, &list.keyList); err != nil {
		return err
	}
	c, i := cursor{b: raw}, 0
	readKeyList(&c, func(_ int, who, seq uint64) {
		binary.BigEndian.PutUint64(keys[i].key[:8], who)
		binary.BigEndian.PutUint64(keys[i].key[8:], seq)
		i++
	})
	info, err := s.putBlock(ctx, func(w io.Writer, id string, created int64) (*blockInfo, error) {
		out, err := newBlockWriter(w, s.pk, id, list.created, levelMerged)
		if err != nil {
			return nil, err
		}
		n, err := io.Copy(w, io.NewSectionReader(b.blob, blockHeaderSize, list.keyList.offset-blockHeaderSize))
		if err != nil {
			return nil, err
		}
		out.offset += n
		out.epochs, out.sources, out.parts, out.key = list.epochs, []string{list.id}, list.parts, keys
		return out.finish()
	})
	if err != nil {
		return err
	}
	return s.swap([]*blockInfo{info}, []*block{b}, nil)
}

// ReadManifest reads the manifest of a backup.
func ReadManifest(raw []byte) (*Manifest, error) { return readManifest(raw, nil) }

// ReadBackup reads a tar stream as a restore does.
func ReadBackup(raw []byte) (files int, err error) {
	_, err = readTar(context.Background(), bytes.NewReader(raw), func(_ string, size int64, r io.Reader) error {
		files++
		_, err := io.Copy(io.Discard, r)
		return err
	})
	return files, err
}

// ReadPages reads the pages of a catalog's file, in both ways.
func ReadPages(raw []byte) (entries int, err error) {
	entry := func(string, []byte, []byte) error {
		entries++
		return nil
	}
	p := &catalogPages{r: bytes.NewReader(raw), entry: entry}
	err = p.read(int64(len(raw)))
	p = &catalogPages{r: bytes.NewReader(raw), entry: entry, broken: func(error) {}}
	_ = p.read(int64(len(raw)))
	return entries, err
}

// EditCatalog changes the catalog of a directory that no store has open.
func EditCatalog(dir string, edit func(*CatalogEdit) error) error {
	c, _, err := openCatalog(dir)
	if err != nil {
		return err
	}
	defer c.close()
	return c.db.Update(func(tx *bbolt.Tx) error { return edit(&CatalogEdit{tx}) })
}

// CatalogEdit is a transaction of EditCatalog.
type CatalogEdit struct{ tx *bbolt.Tx }

// Put stores a sealed entry.
func (e *CatalogEdit) Put(bucket, key, value string) error {
	return put(e.tx, bucket, []byte(key), []byte(value))
}

// Delete removes all entries of a bucket.
func (e *CatalogEdit) Clear(bucket string) error {
	if err := e.tx.DeleteBucket([]byte(bucket)); err != nil {
		return err
	}
	_, err := e.tx.CreateBucket([]byte(bucket))
	return err
}

// AddRow adds the row of a block's file.
func (e *CatalogEdit) AddRow(dir, id string) error {
	b, err := inspectBlock(&dirBlobs{osFiles{}, filepath.Join(dir, blockDir)}, id)
	if err != nil {
		return err
	}
	return e.tx.Bucket([]byte(bucketBlocks)).Put([]byte(id), appendInfo(nil, b.info))
}

// BlockPlaces says where a block's list of keys, places of keys and listing
// are.
func BlockPlaces(path string) (keyList, keyInfo, listing int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, 0, 0, err
	}
	l, at, err := openListing(f, st.Size())
	if err != nil {
		return 0, 0, 0, err
	}
	return l.keyList.offset, l.keyInfo.offset, at.offset, nil
}

// Derive writes another block made of one of a directory, which it names as
// its source: a rollup of no services, or else a merged one. With spoil the
// totals of a row are wrong, behind checksums that are right.
func Derive(dir, id string, rollup, spoil bool) (string, error) {
	blobs := &dirBlobs{osFiles{}, filepath.Join(dir, blockDir)}
	c := &checker{pk: newPacker(), blobs: blobs, report: &CheckReport{}}
	from, err := inspectBlock(blobs, id)
	if err != nil {
		return "", err
	}
	blob, err := blobs.Open(id)
	if err != nil {
		return "", err
	}
	defer blob.Close()
	l := from.list
	r := &blockReader{c: c, id: id, blob: blob, size: from.info.size}
	out := "0123456789ab-" + id[13:]
	err = blobs.Put(out, func(w io.Writer) error {
		level := uint8(levelMerged)
		if rollup {
			level = levelRollup
		}
		b, err := newBlockWriter(w, c.pk, out, l.created, level)
		if err != nil {
			return err
		}
		b.sources, b.epochs = []string{id}, l.epochs
		if rollup {
			_, err := b.finish()
			return err
		}
		n, err := io.Copy(w, io.NewSectionReader(blob, blockHeaderSize, l.keyList.offset-blockHeaderSize))
		if err != nil {
			return err
		}
		b.offset += n
		b.parts = l.parts
		if spoil {
			if err := spoilTotals(r, b); err != nil {
				return err
			}
		}
		walk := &blockWalk{r: r, list: l, out: &checkedBlock{row: from.info, parts: map[int]bool{}}}
		c.ctx, c.content = context.Background(), newCatalogContent()
		for i := range l.parts {
			walk.part(i)
		}
		if keys := walk.keys(); keys.err == nil {
			b.key = keys.good
		}
		_, err = b.finish()
		return err
	})
	return out, err
}

// spoilTotals writes the first group's rows of the first part again, with one
// wrong total.
func spoilTotals(r *blockReader, b *blockWriter) error {
	raw, err := r.load(&b.parts[0].directory)
	if err != nil {
		return err
	}
	dir, err := readPartDirectory(raw)
	if err != nil {
		return err
	}
	g := dir.sections[0][0]
	if raw, err = r.load(g.stream(streamRows)); err != nil {
		return err
	}
	cols := len(b.parts[0].sections[0].sampleTypes)
	rows, err := readRows(raw, g.rows, cols, rowLimits{1 << 20, 1 << 20, 1 << 20})
	if err != nil {
		return err
	}
	rows[0].totals[cols-1]++
	var list []*row
	for i := range rows {
		list = append(list, &rows[i])
	}
	if *g.stream(streamRows), err = b.place(b.pk.stream(streamRows, appendRows(nil, list, cols))); err != nil {
		return err
	}
	b.parts[0].directory, err = b.place(b.pk.stream(0, appendPartDirectory(nil, dir)))
	return err
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
