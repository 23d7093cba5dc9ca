package coredump

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// copyBytes is how much of a core file is read at once.
const copyBytes = 1 << 20

// WriteTo writes the file as a plain stream, holes as zeros.
func (f *CoreFile) WriteTo(w io.Writer) (int64, error) {
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.NewSectionReader(f, 0, f.size), make([]byte, copyBytes))
	if err != nil {
		err = fmt.Errorf("write a core: %w", err)
	}
	return n, err
}

// WriteSparse writes the file into an empty one, leaving out what is zero.
func (f *CoreFile) WriteSparse(file *os.File) error {
	if err := file.Truncate(f.size); err != nil {
		return fmt.Errorf("write a core: %w", err)
	}
	err := f.each(f.Extents(), func(b []byte, off int64) error {
		for len(b) > 0 {
			n := filled(b)
			if n > 0 {
				if _, err := file.WriteAt(b[:n], off); err != nil {
					return err
				}
				b, off = b[n:], off+int64(n)
			}
			n = empty(b)
			b, off = b[n:], off+int64(n)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write a core: %w", err)
	}
	return nil
}

// each calls write for all of extents, piece by piece. The bytes are lent.
func (f *CoreFile) each(extents []Extent, write func(b []byte, off int64) error) error {
	buf := make([]byte, copyBytes)
	for _, e := range extents {
		for e.Size > 0 {
			b := buf[:min(uint64(len(buf)), e.Size)]
			if n, err := f.ReadAt(b, int64(e.Addr)); n < len(b) {
				return err
			}
			if err := write(b, int64(e.Addr)); err != nil {
				return err
			}
			e.Addr += uint64(len(b))
			e.Size -= uint64(len(b))
		}
	}
	return nil
}

// filled is how many leading bytes of b are pages that have something.
func filled(b []byte) int {
	n := 0
	for n < len(b) && !allZero(b[n:min(n+corePage, len(b))]) {
		n += min(corePage, len(b)-n)
	}
	return n
}

// empty is how many leading bytes of b are pages of nothing but zeros.
func empty(b []byte) int {
	n := 0
	for n < len(b) && allZero(b[n:min(n+corePage, len(b))]) {
		n += min(corePage, len(b)-n)
	}
	return n
}

var tarZeros [tarBlock]byte

const tarBlock = 512

// WriteTar writes a tar archive with the file, sparse, under a name. It is of
// the PAX format with GNU.sparse 1.0 (GNU tar, "Storing Sparse Files"), which
// tar unpacks with its holes.
func (f *CoreFile) WriteTar(w io.Writer, name string) error {
	extents := f.tarExtents()
	stored := int64(0)
	table := []byte(fmt.Sprintf("%d\n", len(extents)+1))
	for _, e := range extents {
		table = fmt.Appendf(table, "%d\n%d\n", e.Addr, e.Size)
		stored += int64(e.Size)
	}
	table = fmt.Appendf(table, "%d\n0\n", f.size) // a hole may be at the end
	table = tarPad(table)
	stored += int64(len(table))
	var pax []byte
	for _, r := range [][2]string{
		{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"},
		{"GNU.sparse.name", name}, {"GNU.sparse.realsize", fmt.Sprint(f.size)},
		{"size", fmt.Sprint(stored)},
	} {
		pax = appendPAX(pax, r[0], r[1])
	}
	b := appendTarHeader(nil, "PaxHeaders.0/core", 'x', int64(len(pax)))
	b = tarPad(append(b, pax...))
	b = appendTarHeader(b, "GNUSparseFile.0/core", '0', stored)
	b = append(b, table...)
	if _, err := w.Write(b); err != nil {
		return err
	}
	err := f.each(extents, func(b []byte, _ int64) error {
		_, err := w.Write(b)
		return err
	})
	if err != nil {
		return fmt.Errorf("write a core: %w", err)
	}
	_, err = w.Write(make([]byte, -stored&(tarBlock-1)+2*tarBlock))
	return err
}

// tarExtents are the extents of the file in whole blocks of a tar archive, of
// which each region of a sparse file has a number.
func (f *CoreFile) tarExtents() []Extent {
	var out []Extent
	for _, e := range f.Extents() {
		from, to := e.Addr&^(tarBlock-1), min((e.End()+tarBlock-1)&^(tarBlock-1), uint64(f.size))
		if k := len(out); k > 0 && out[k-1].End() >= from {
			out[k-1].Size = to - out[k-1].Addr
		} else {
			out = append(out, Extent{from, to - from})
		}
	}
	return out
}

func tarPad(b []byte) []byte { return append(b, tarZeros[:-len(b)&(tarBlock-1)]...) }

// appendPAX appends "length key=value\n", where the length counts itself.
func appendPAX(b []byte, key, value string) []byte {
	n := len(key) + len(value) + 3
	for size := n + 1; ; size++ {
		if s := fmt.Sprint(size); len(s)+n == size {
			return fmt.Appendf(b, "%s %s=%s\n", s, key, value)
		}
	}
}

// appendTarHeader appends a header of the format ustar (POSIX.1-1988).
func appendTarHeader(b []byte, name string, kind byte, size int64) []byte {
	var h [tarBlock]byte
	copy(h[:100], name)
	copy(h[100:], "0000600\x000000000\x000000000\x00")
	if size < 1<<33 { // else the size is in the PAX header alone
		copy(h[124:], fmt.Sprintf("%011o\x00", size))
	} else {
		copy(h[124:], "00000000000\x00")
	}
	copy(h[136:], "00000000000\x00")
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	sum := 0
	copy(h[148:], bytes.Repeat([]byte{' '}, 8))
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(b, h[:]...)
}
