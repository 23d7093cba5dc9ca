package symbolize

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"slices"

	"github.com/goinquest/inquest"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// part is where one part is in the data.
type part struct {
	id        uint32
	off, size uint64
}

// partWriter writes the container: begin, Write and again, then finish.
type partWriter struct {
	w     io.Writer
	buf   []byte // what is not written yet; whole pages but for the last
	off   uint64
	parts []part
	sums  []byte
	err   error
}

func newPartWriter(w io.Writer) *partWriter {
	return &partWriter{w: w, buf: make([]byte, 0, writeBytes)}
}

// begin starts a part; what is written from now on belongs to it.
func (w *partWriter) begin(id uint32) {
	w.parts = append(w.parts, part{id: id, off: w.off})
}

// Write appends to the part that was begun. Errors are kept for finish, too.
func (w *partWriter) Write(b []byte) (int, error) {
	n := len(b)
	w.off += uint64(n)
	w.parts[len(w.parts)-1].size += uint64(n)
	for len(b) > 0 && w.err == nil {
		room := min(len(b), writeBytes-len(w.buf))
		w.buf, b = append(w.buf, b[:room]...), b[room:]
		if len(w.buf) == writeBytes {
			w.flush()
		}
	}
	return n, w.err
}

const writeBytes = 64 * pageBytes

func (w *partWriter) flush() {
	for page := range slices.Chunk(w.buf, pageBytes) {
		w.sums = binary.LittleEndian.AppendUint32(w.sums, crc32.Checksum(page, castagnoli))
	}
	if len(w.buf) > 0 && w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

// finish writes the directory and returns the first error of all.
func (w *partWriter) finish() error {
	w.flush()
	le := binary.LittleEndian
	dir := le.AppendUint32(nil, uint32(len(w.parts)))
	for _, p := range w.parts {
		dir = le.AppendUint32(dir, p.id)
		dir = le.AppendUint64(dir, p.off)
		dir = le.AppendUint64(dir, p.size)
	}
	dir = append(dir, w.sums...)
	sum := crc32.Checksum(dir, castagnoli)
	n := len(dir)
	dir = le.AppendUint64(dir, w.off)
	dir = le.AppendUint64(dir, uint64(n))
	dir = le.AppendUint32(dir, sum)
	dir = le.AppendUint32(dir, tableVersion)
	dir = append(dir, tableMagic...)
	if w.err == nil {
		_, w.err = w.w.Write(dir)
	}
	return w.err
}

// pages reads the data of a container. It is not safe for concurrent use.
type pages struct {
	r     io.ReaderAt
	size  uint64 // of the data
	parts []part
	sums  []uint32
	slots []cachedPage
}

// How many pages are kept: an eighth of them all, between these.
const (
	minCachedPages = 4
	maxCachedPages = 256 // one megabyte
)

type cachedPage struct {
	no   uint64
	data []byte // nil: empty
}

// openPages reads the directory.
func openPages(r io.ReaderAt, size int64) (*pages, error) {
	bad := func(what string) error {
		return inquest.Errorf(inquest.ErrInvalid, "table of symbols: %s", what)
	}
	if size < trailerBytes {
		return nil, bad("shorter than its trailer")
	}
	le := binary.LittleEndian
	var tail [trailerBytes]byte
	if n, err := r.ReadAt(tail[:], size-trailerBytes); n < len(tail) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "read the trailer of a table of symbols: %w", err)
	}
	dataLen, dirLen := le.Uint64(tail[:]), le.Uint64(tail[8:])
	switch body := uint64(size) - trailerBytes; {
	case string(tail[24:]) != tableMagic:
		return nil, bad("not one, or cut off")
	case le.Uint32(tail[20:]) != tableVersion:
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: version %d; %d is known", le.Uint32(tail[20:]), tableVersion)
	case dataLen > body || dirLen != body-dataLen || dirLen < 4 || dirLen > maxPartBytes:
		return nil, bad("wrong lengths")
	}
	dir := make([]byte, dirLen)
	if n, err := r.ReadAt(dir, int64(dataLen)); n < len(dir) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "read the directory of a table of symbols: %w", err)
	}
	if crc32.Checksum(dir, castagnoli) != le.Uint32(tail[16:]) {
		return nil, bad("damaged directory")
	}
	p := &pages{r: r, size: dataLen}
	count := uint64(le.Uint32(dir))
	npages := (dataLen + pageBytes - 1) / pageBytes
	if count > maxParts || dirLen != 4+count*partRowBytes+npages*4 {
		return nil, bad("wrong directory")
	}
	for i := range count {
		row := dir[4+i*partRowBytes:]
		q := part{le.Uint32(row), le.Uint64(row[4:]), le.Uint64(row[12:])}
		if q.off > dataLen || q.size > dataLen-q.off {
			return nil, bad("a part is not in the data")
		}
		p.parts = append(p.parts, q)
	}
	for b := dir[4+count*partRowBytes:]; len(b) > 0; b = b[4:] {
		p.sums = append(p.sums, le.Uint32(b))
	}
	p.slots = make([]cachedPage, min(max(len(p.sums)/8, minCachedPages), maxCachedPages))
	return p, nil
}

// part finds a part; its size is 0 if there is none.
func (p *pages) part(id uint32) part {
	for _, q := range p.parts {
		if q.id == id {
			return q
		}
	}
	return part{}
}

// read returns n bytes at off of a part. They must not be changed, and stay
// as they are.
func (p *pages) read(q part, off, n uint64) ([]byte, error) {
	if off > q.size || n > q.size-off {
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: %d bytes at %d of part %d, which has %d", n, off, q.id, q.size)
	}
	off += q.off
	if n == 0 {
		return nil, nil
	}
	no, at := off/pageBytes, off%pageBytes
	page, err := p.page(no)
	if err != nil {
		return nil, err
	}
	if at+n <= uint64(len(page)) {
		return page[at : at+n : at+n], nil
	}
	out := append(make([]byte, 0, n), page[at:]...)
	for uint64(len(out)) < n {
		no++
		if page, err = p.page(no); err != nil {
			return nil, err
		}
		out = append(out, page[:min(uint64(len(page)), n-uint64(len(out)))]...)
	}
	return out, nil
}

// page reads and verifies one page, unless it is at hand.
func (p *pages) page(no uint64) ([]byte, error) {
	slot := &p.slots[no%uint64(len(p.slots))]
	if slot.data != nil && slot.no == no {
		return slot.data, nil
	}
	b := make([]byte, min(pageBytes, p.size-no*pageBytes))
	if n, err := p.r.ReadAt(b, int64(no*pageBytes)); n < len(b) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "read page %d of a table of symbols: %w", no, err)
	}
	if crc32.Checksum(b, castagnoli) != p.sums[no] {
		return nil, inquest.Errorf(inquest.ErrInvalid, "table of symbols: page %d is damaged", no)
	}
	*slot = cachedPage{no, b}
	return b, nil
}
