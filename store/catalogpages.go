package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// A damaged page can make bbolt end the whole process, from a goroutine of its
// own or by reading beyond the end of its mapping. So the pages of a catalog
// are read here first, without mapping them: what passes is a tree in order
// that bbolt can be let at. The layout is bbolt's, version 2 of its files.

// ErrCatalog is what opening a store fails with whose catalog cannot be used.
// Check with Repair makes it again from the blocks.
var ErrCatalog = errors.New("the catalog is damaged")

const (
	pageHeaderBytes  = 16 // id u64, flags u16, count u16, overflow u32
	pageElementBytes = 16 // leaf: flags, offset, key and value length, u32 each; branch: offset, key length u32, page u64
	pageMetaBytes    = 64
	pageMetaMagic    = 0xED0CDAED
	pageMetaVersion  = 2
	pageBranch       = 1
	pageLeaf         = 2
	pageMeta         = 4
	pageFreelist     = 16
	pageBucket       = 1 // flag of a leaf's element: the value is a bucket, root page u64 and sequence u64
	pageNone         = 1<<64 - 1
	bucketHeadBytes  = 16
	maxPageBytes     = 1 << 16
	maxPageRunBytes  = 1 << 30 // of one page with its overflow
)

// catalogPages reads the pages of a catalog's file.
type catalogPages struct {
	r     io.ReaderAt
	size  int64 // of a page
	pages uint64
	root  uint64
	free  uint64 // of the list of free pages, pageNone if it is not stored
	stale bool   // the newest of the two first pages cannot be read: what is seen may be one transaction old
	seen  []uint64
	names []string // of the buckets met

	// entry is called for every entry, in order of buckets and keys; what it is
	// given is valid during the call.
	entry func(bucket string, key, value []byte) error
	// broken, if not nil, takes what cannot be read, and reading goes on behind
	// it; else it ends with the first error.
	broken func(error)
}

// checkPages says whether bbolt can open the file at path. stale says that the
// newest transaction may be missing in it. A file that is not there or empty is
// whole.
func checkPages(ops fileOps, path string) (stale bool, err error) {
	f, err := ops.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size == 0 {
		return false, err
	}
	p := &catalogPages{r: f, entry: func(string, []byte, []byte) error { return nil }}
	if err := p.read(size); err != nil {
		return false, fmt.Errorf("%w: %w", ErrCatalog, err)
	}
	return p.stale, nil
}

// read reads everything in a file of the given size.
func (p *catalogPages) read(size int64) error {
	if err := p.open(size); err != nil {
		return err
	}
	if err := p.freelist(); err != nil {
		return err
	}
	return p.tree(p.root, nil, nil, 0, func(key, value []byte, flags uint32) error {
		return p.pass(p.bucket(string(key), value, flags))
	})
}

// pass gives an error to broken, if there is one.
func (p *catalogPages) pass(err error) error {
	if err != nil && p.broken != nil {
		p.broken(err)
		return nil
	}
	return err
}

// open finds the newest of the two first pages.
func (p *catalogPages) open(size int64) error {
	var metas [2][]byte
	buf := make([]byte, pageHeaderBytes+pageMetaBytes)
	if metas[0] = readMetaPage(p.r, buf, 0, 0); metas[0] != nil {
		p.size = int64(binary.LittleEndian.Uint32(metas[0][8:]))
		metas[1] = readMetaPage(p.r, bytes.Clone(buf), p.size, 1)
	} else {
		for s := int64(1024); s <= maxPageBytes && metas[1] == nil; s *= 2 {
			p.size = s
			if metas[1] = readMetaPage(p.r, buf, s, 1); metas[1] != nil && int64(binary.LittleEndian.Uint32(metas[1][8:])) != s {
				metas[1] = nil
			}
		}
	}
	var m []byte
	for _, x := range metas {
		if x != nil && (m == nil || binary.LittleEndian.Uint64(x[48:]) > binary.LittleEndian.Uint64(m[48:])) {
			m = x
		}
	}
	if m == nil {
		return errors.New("neither of its first pages can be read")
	}
	p.stale = metas[0] == nil || metas[1] == nil
	p.root, p.free, p.pages = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[32:]), binary.LittleEndian.Uint64(m[40:])
	if p.size < 512 || p.size > maxPageBytes || p.pages > uint64(size/p.size) {
		return fmt.Errorf("file has %d bytes, too few for %d pages of %d", size, p.pages, p.size)
	}
	p.seen = make([]uint64, p.pages/64+1)
	return nil
}

// readMetaPage reads one of the two first pages; nil if it is damaged.
func readMetaPage(r io.ReaderAt, buf []byte, at int64, id uint64) []byte {
	if n, err := r.ReadAt(buf, at); n < len(buf) && err != nil {
		return nil
	}
	m := buf[pageHeaderBytes:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56]) // never fails
	if binary.LittleEndian.Uint64(buf) != id || binary.LittleEndian.Uint16(buf[8:]) != pageMeta ||
		binary.LittleEndian.Uint32(m) != pageMetaMagic || binary.LittleEndian.Uint32(m[4:]) != pageMetaVersion ||
		binary.LittleEndian.Uint64(m[56:]) != sum.Sum64() {
		return nil
	}
	return m
}

// page reads a page with its overflow. No page is read twice.
func (p *catalogPages) page(id uint64) ([]byte, error) {
	if id < 2 || id >= p.pages {
		return nil, fmt.Errorf("page %d is referred to, there are %d", id, p.pages)
	}
	head := make([]byte, pageHeaderBytes)
	if _, err := p.r.ReadAt(head, int64(id)*p.size); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	if got := binary.LittleEndian.Uint64(head); got != id {
		return nil, fmt.Errorf("page %d says that it is page %d", id, got)
	}
	n := 1 + uint64(binary.LittleEndian.Uint32(head[12:]))
	if id+n > p.pages || int64(n) > maxPageRunBytes/p.size {
		return nil, fmt.Errorf("page %d claims to be %d pages long", id, n)
	}
	for i := id; i < id+n; i++ {
		if p.seen[i/64]>>(i%64)&1 != 0 {
			return nil, fmt.Errorf("page %d is referred to twice", i)
		}
		p.seen[i/64] |= 1 << (i % 64)
	}
	data := make([]byte, int64(n)*p.size)
	if _, err := p.r.ReadAt(data, int64(id)*p.size); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	return data, nil
}

// freelist reads the list of free pages, if it is stored.
func (p *catalogPages) freelist() error {
	if p.free == pageNone {
		return nil
	}
	data, err := p.page(p.free)
	if err != nil {
		return err
	}
	n, body := uint64(binary.LittleEndian.Uint16(data[10:])), data[pageHeaderBytes:]
	if n == 0xFFFF {
		n, body = binary.LittleEndian.Uint64(body), body[8:]
	}
	if binary.LittleEndian.Uint16(data[8:]) != pageFreelist || n > uint64(len(body)/8) {
		return fmt.Errorf("page %d is no list of free pages", p.free)
	}
	for i := range n {
		if id := binary.LittleEndian.Uint64(body[8*i:]); id < 2 || id >= p.pages {
			return fmt.Errorf("page %d calls page %d free, there are %d", p.free, id, p.pages)
		}
	}
	return nil
}

// maxPageDepth is more than a tree of pages can be deep.
const maxPageDepth = 32

// tree reads the pages below one: its keys must not be below low, if there is
// one, and must be below high.
func (p *catalogPages) tree(id uint64, low, high []byte, depth int, each func(key, value []byte, flags uint32) error) error {
	data, err := p.page(id)
	if err != nil {
		return p.pass(err)
	}
	if depth > maxPageDepth {
		return p.pass(fmt.Errorf("page %d is too deep", id))
	}
	if binary.LittleEndian.Uint16(data[8:]) == pageLeaf {
		return p.pass(p.leaf(data, fmt.Sprintf("page %d", id), low, high, each))
	}
	keys, err := pageKeys(data, pageBranch, low, high)
	if err != nil {
		return p.pass(fmt.Errorf("page %d: %w", id, err))
	}
	for i, key := range keys {
		next := high
		if i+1 < len(keys) {
			next = keys[i+1]
		}
		child := binary.LittleEndian.Uint64(data[pageHeaderBytes+i*pageElementBytes+8:])
		if err := p.tree(child, key, next, depth+1, each); err != nil {
			return err
		}
	}
	return nil
}

// pageKeys reads the keys of a page, which must ascend within [low, high).
func pageKeys(data []byte, kind uint16, low, high []byte) ([][]byte, error) {
	if flags := binary.LittleEndian.Uint16(data[8:]); flags != kind {
		return nil, fmt.Errorf("its type is %#x", flags)
	}
	n := int(binary.LittleEndian.Uint16(data[10:]))
	if pageHeaderBytes+n*pageElementBytes > len(data) || kind == pageBranch && n == 0 {
		return nil, fmt.Errorf("it claims %d elements", n)
	}
	keys := make([][]byte, n)
	for i := range keys {
		at := pageHeaderBytes + i*pageElementBytes
		e := data[at:]
		pos, size, rest := uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:])), uint64(0)
		if kind == pageLeaf {
			pos, size, rest = size, uint64(binary.LittleEndian.Uint32(e[8:])), uint64(binary.LittleEndian.Uint32(e[12:]))
		}
		from := uint64(at) + pos
		if size == 0 || pos < pageElementBytes || from+size+rest > uint64(len(data)) {
			return nil, fmt.Errorf("element %d lies beyond its end", i)
		}
		keys[i] = data[from : from+size : from+size]
		switch {
		case i == 0 && low != nil && bytes.Compare(keys[i], low) < 0,
			i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0,
			high != nil && bytes.Compare(keys[i], high) >= 0:
			return nil, fmt.Errorf("key %d is out of order", i)
		}
	}
	return keys, nil
}

func (p *catalogPages) leaf(data []byte, what string, low, high []byte, each func(key, value []byte, flags uint32) error) error {
	keys, err := pageKeys(data, pageLeaf, low, high)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	for i, key := range keys {
		at := pageHeaderBytes + i*pageElementBytes
		e := data[at:]
		from := uint64(at) + uint64(binary.LittleEndian.Uint32(e[4:])) + uint64(len(key))
		value := data[from:][:binary.LittleEndian.Uint32(e[12:])]
		if err := each(key, value, binary.LittleEndian.Uint32(e)); err != nil {
			return err
		}
	}
	return nil
}

// bucket reads the entries of a bucket, given its element in the root.
func (p *catalogPages) bucket(name string, value []byte, flags uint32) error {
	if flags != pageBucket || len(value) < bucketHeadBytes {
		return fmt.Errorf("%.40q is no bucket", name)
	}
	p.names = append(p.names, name)
	each := func(key, value []byte, flags uint32) error {
		if flags != 0 {
			return p.pass(fmt.Errorf("entry %.40q of bucket %.40q has flags %#x", key, name, flags))
		}
		return p.entry(name, key, value)
	}
	root := binary.LittleEndian.Uint64(value)
	if root != 0 {
		return p.tree(root, nil, nil, 0, each)
	}
	inline := value[bucketHeadBytes:]
	if len(inline) < pageHeaderBytes {
		return fmt.Errorf("bucket %.40q is cut off", name)
	}
	return p.leaf(inline, fmt.Sprintf("bucket %.40q", name), nil, nil, each)
}
