package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"go.etcd.io/bbolt"
)

// checkedBlock is what is kept of a block for what blocks must have in common.
type checkedBlock struct {
	row     *blockInfo
	epochs  []uint64
	sources []string
	beside  []string
	keyList stream
	lost    bool         // nothing of it can be read
	parts   map[int]bool // damaged ones
	n       int          // parts
	noKeys  bool         // its key list cannot be read
}

func (b *checkedBlock) whole() bool { return !b.lost && len(b.parts) == 0 && !b.noKeys }

// blockReader reads a block that is being checked.
type blockReader struct {
	c    *checker
	id   string
	blob Blob
	size int64
	buf  []byte
	// All ranges that something refers to.
	ranges []blockRange
}

type blockRange struct{ from, to int64 }

// block checks one block of the catalog.
func (c *checker) block(id string, row *blockInfo) {
	out := &checkedBlock{row: row, parts: map[int]bool{}}
	c.blocks[id] = out
	c.report.Blocks++
	blob, err := c.blobs.Open(id)
	if err != nil {
		out.lost = true
		c.wholeBlock(id, row, err)
		return
	}
	defer blob.Close()
	r := &blockReader{c: c, id: id, blob: blob}
	if r.size, err = blob.Size(); err != nil {
		out.lost = true
		c.wholeBlock(id, row, err)
		return
	}
	r.check(row, out)
}

// check reads all of a block.
func (r *blockReader) check(row *blockInfo, out *checkedBlock) {
	c := r.c
	c.advance(blockFile(r.id), 0)
	list, at, broken := r.listing(row)
	if list == nil {
		out.lost = true
		c.wholeBlock(r.id, row, broken)
		return
	}
	out.epochs, out.sources, out.beside, out.keyList, out.n = list.epochs, list.sources, list.beside, list.keyList, len(list.parts)
	r.use(&at)
	w := &blockWalk{r: r, list: list, out: out}
	for i := range list.parts {
		if c.ctx.Err() != nil {
			return
		}
		c.report.Parts++
		w.part(i)
	}
	keys := w.keys()
	if broken == nil && len(out.parts) == 0 {
		r.gaps(at.offset)
	}
	c.row(row, list, at, r.size, broken != nil)
	r.mend(list, at, broken, keys, out)
}

// listing finds the block's listing by its footer or, if that is damaged, by
// the catalog's row. broken says what is wrong with header or footer.
func (r *blockReader) listing(row *blockInfo) (list *blockListing, at stream, broken error) {
	list, at, broken = openListing(r.blob, r.size)
	if broken != nil && row.listing.size > 0 {
		at = row.listing
		if raw, err := r.load(&at); err == nil {
			list, _ = readListing(raw, uint32(at.id))
		}
	}
	if list == nil {
		return nil, at, broken
	}
	if list.id != r.id {
		return nil, at, fmt.Errorf("is block %s", list.id)
	}
	head := make([]byte, blockHeaderSize)
	if _, err := r.blob.ReadAt(head, 0); err != nil {
		broken = errors.Join(broken, err)
	} else if want := binary.LittleEndian.AppendUint32([]byte(magicBlockHead), uint32(at.id)); !bytes.Equal(head, want) {
		broken = errors.Join(broken, errors.New("header is damaged"))
	}
	return list, at, broken
}

// use notes that something refers to a stream.
func (r *blockReader) use(s *stream) {
	r.ranges = append(r.ranges, blockRange{s.offset, s.offset + int64(s.size)})
}

// checkPiece is how much of a stream is read at once that is not decoded.
const checkPiece = 256 << 10

// sum verifies the checksum of a stream that is not decoded.
func (r *blockReader) sum(s *stream) error {
	if s.offset < 0 || s.offset+int64(s.size) > r.size {
		return errors.New("lies beyond the end of the file")
	}
	crc := uint32(0)
	for at, left := s.offset, int(s.size); left > 0; {
		n := min(left, checkPiece)
		r.buf = resize(r.buf, n)
		if _, err := r.blob.ReadAt(r.buf, at); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		crc = updateChecksum(crc, r.buf)
		at, left = at+int64(n), left-n
	}
	r.count(s)
	if crc != s.crc {
		return errors.New("checksum does not match")
	}
	return nil
}

func (r *blockReader) count(s *stream) {
	r.c.report.Streams++
	r.c.advance(blockFile(r.id), int64(s.size))
}

// load reads, verifies and unpacks a stream.
func (r *blockReader) load(s *stream) ([]byte, error) {
	if s.offset < 0 || s.offset+int64(s.size) > r.size {
		return nil, errors.New("lies beyond the end of the file")
	}
	data := make([]byte, s.size, int(s.size)+bitPad)
	if _, err := r.blob.ReadAt(data, s.offset); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	r.count(s)
	return unpackStream(r.c.pk, s, data)
}

// gaps reports bytes up to end that nothing, or more than one thing, refers
// to: whatever wrote the block was wrong.
func (r *blockReader) gaps(end int64) {
	slices.SortFunc(r.ranges, func(a, b blockRange) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	at := int64(blockHeaderSize)
	for _, g := range r.ranges {
		switch {
		case g.from > at && at < end:
			r.c.problem(CheckProblem{Where: blockFile(r.id), What: fmt.Sprintf("nothing refers to its bytes %d to %d", at, g.from)})
		case g.from < at && g.to > g.from:
			r.c.problem(CheckProblem{Where: blockFile(r.id), What: fmt.Sprintf("more than one thing refers to its bytes %d to %d", g.from, min(at, g.to))})
		}
		at = max(at, g.to)
	}
}

// row compares the catalog's row with what the block says.
func (c *checker) row(row *blockInfo, list *blockListing, at stream, size int64, broken bool) {
	want := list.info(size, at)
	want.rolled = row.rolled
	if broken || bytes.Equal(appendInfo(nil, want), appendInfo(nil, row)) {
		return
	}
	n := c.problem(CheckProblem{
		Where: rowName(row.id), What: "the row does not say what the block says", Repair: "the row is made again",
	})
	c.fixEntry(n, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketBlocks)).Put([]byte(want.id), appendInfo(nil, want))
	})
}

// marks reports marks of damage that are wrong by now.
func (c *checker) marks() {
	for _, key := range sortedKeys(c.content.marks) {
		id, part := splitDamageKey(key)
		b := c.blocks[id]
		why := ""
		switch {
		case b == nil && c.content.rows[id] == nil:
			if _, err := os.Stat(c.blobs.path(id)); err == nil {
				continue // a file of a lost row, see leftovers
			}
			why = "there is no such block"
		case b.lost:
			continue
		case part == wholeBlock:
			why = "the block can be read"
		case part >= b.n:
			why = "there is no such part"
		case b.parts[part]:
			continue
		default:
			why = "the part can be read"
		}
		n := c.problem(CheckProblem{
			Where: fmt.Sprintf("%s %s %q", catalogFile, bucketDamaged, key), Repair: "the mark goes",
			What: fmt.Sprintf("%s, but it is marked as damaged and left out: %s", why, c.content.marks[key]),
		})
		c.fixEntry(n, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketDamaged)).Delete([]byte(key)) })
	}
}

// splitDamageKey is the reverse of damageKey.
func splitDamageKey(key string) (id string, part int) {
	for i := len(key) - 1; i >= 0; i-- {
		if key[i] == '/' {
			if n, err := strconv.Atoi(key[i+1:]); err == nil && n >= 0 {
				return key[:i], n
			}
			break
		}
	}
	return key, wholeBlock
}
