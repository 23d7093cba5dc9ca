package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"go.etcd.io/bbolt"
)

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
	c, _, err := openCatalog(osFiles{}, dir)
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
	b, err := inspectBlock(blocksIn(osFiles{}, dir), id)
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
	blobs := blocksIn(osFiles{}, dir)
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
			b.sources, b.beside = nil, []string{id}
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
