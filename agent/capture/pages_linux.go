package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"github.com/goinquest/inquest/coredump"
	"golang.org/x/sys/unix"
)

// The categories of pages that PAGEMAP_SCAN tells (the kernel's
// include/uapi/linux/fs.h).
const (
	pageFile    = 1 << 2
	pagePresent = 1 << 3
	pageSwapped = 1 << 4
	pageZero    = 1 << 5 // the page of zeros that all processes share

	ioctlPagemapScan = 0xc0606610
)

// scanArg is struct pm_scan_arg.
type scanArg struct {
	size, flags        uint64
	start, end         uint64
	walkEnd            uint64
	vec, vecLen        uint64
	maxPages           uint64
	inverted, mask     uint64
	anyOf, returnsMask uint64
}

// pageRegion is struct page_region: neighbouring pages of the same categories.
type pageRegion struct {
	start, end, categories uint64
}

// pages tells which pages of a process are in memory.
type pages struct {
	file *os.File
	page uint64
	slow bool // no PAGEMAP_SCAN: Linux before 6.7
	vec  []pageRegion
}

func openPages(pid int) (*pages, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/pagemap")
	if err != nil {
		return nil, fmt.Errorf("open pagemap: %w", err)
	}
	return &pages{file: f, page: uint64(os.Getpagesize()), vec: make([]pageRegion, 1024)}, nil
}

func (p *pages) Close() error { return p.file.Close() }

// each calls f with what of an extent is in memory or swapped out, by address.
func (p *pages) each(e coredump.Extent, f func(coredump.Extent, uint64)) error {
	if !p.slow {
		err := p.scan(e, f)
		if !errors.Is(err, unix.ENOTTY) && !errors.Is(err, unix.EINVAL) {
			return err
		}
		p.slow = true
	}
	return p.walk(e, f)
}

func (p *pages) scan(e coredump.Extent, f func(coredump.Extent, uint64)) error {
	arg := scanArg{
		start: e.Addr, end: e.End(), vec: uint64(uintptr(unsafe.Pointer(&p.vec[0]))), vecLen: uint64(len(p.vec)),
		anyOf: pagePresent | pageSwapped, returnsMask: pageFile | pagePresent | pageSwapped | pageZero,
	}
	arg.size = uint64(unsafe.Sizeof(arg))
	for arg.start < arg.end {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, p.file.Fd(), ioctlPagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("scan pages: %w", errno)
		}
		for _, r := range p.vec[:n] {
			f(coredump.Extent{Addr: r.start, Size: r.end - r.start}, r.categories)
		}
		if arg.walkEnd <= arg.start {
			return nil
		}
		arg.start = arg.walkEnd
	}
	return nil
}

// Bits of an entry of /proc/PID/pagemap (the kernel's
// Documentation/admin-guide/mm/pagemap.rst).
const (
	entryFile    = 1 << 61
	entrySwapped = 1 << 62
	entryPresent = 1 << 63
)

// walk reads an entry for every page.
func (p *pages) walk(e coredump.Extent, f func(coredump.Extent, uint64)) error {
	buf := make([]byte, 64<<10)
	var run coredump.Extent
	var kind uint64
	flush := func() {
		if kind != 0 {
			f(run, kind)
		}
	}
	for at := e.Addr; at < e.End(); {
		n, err := unix.Pread(int(p.file.Fd()), buf[:min(uint64(len(buf)), (e.End()-at)/p.page*8)], int64(at/p.page*8))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read pagemap: %w", err)
		}
		if n < 8 {
			break // the process has ended, or the address is not one of its half
		}
		for entry := range slices.Chunk(buf[:n&^7], 8) {
			categories := categoriesOf(binary.NativeEndian.Uint64(entry))
			if categories != kind {
				flush()
				run, kind = coredump.Extent{Addr: at}, categories
			}
			run.Size += p.page
			at += p.page
		}
	}
	flush()
	return nil
}

// categoriesOf says what an entry of the pagemap says as PAGEMAP_SCAN would.
// It cannot tell the page of zeros.
func categoriesOf(entry uint64) uint64 {
	var c uint64
	if entry&entryPresent != 0 {
		c |= pagePresent
	}
	if entry&entrySwapped != 0 {
		c |= pageSwapped
	}
	if c != 0 && entry&entryFile != 0 {
		c |= pageFile
	}
	return c
}

// extents are what of a region is to be in a core, and what of that is the
// process's own.
func (p *pages) extents(pid int, r *region, filter uint64) (all, own []coredump.Extent, err error) {
	k := r.keep(filter)
	if k == keepChange {
		err = p.each(r.Extent, func(e coredump.Extent, c uint64) {
			if c&(pageFile|pageZero) == 0 {
				own = appendExtent(own, e)
			}
		})
		k = keepFirst
		if own != nil {
			k = keepAll
		}
	}
	switch k {
	case keepAll:
		all = []coredump.Extent{r.Extent}
	case keepFirst:
		if r.Inode != 0 && r.Offset == 0 && r.Flags&flagR != 0 && filter&filterHeaders != 0 {
			all = []coredump.Extent{{Addr: r.Addr, Size: min(p.page, r.Size)}}
		}
	case keepData:
		all, err = p.shared(nil, pid, r)
	case keepPages:
		all, err = p.present(nil, r)
		own = all
	}
	return all, own, err
}

// shared are the data of shared memory: what other processes wrote is not in
// this one's table of pages, but in the file that nobody has a name for.
func (p *pages) shared(dst []coredump.Extent, pid int, r *region) ([]coredump.Extent, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/map_files/%x-%x", pid, r.Addr, r.End()))
	if err != nil {
		return p.present(dst, r)
	}
	defer func() { _ = f.Close() }() // only read
	at, end := int64(r.Offset), int64(r.Offset+r.Size)
	for at < end {
		data, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && data >= end {
			break
		}
		if err != nil {
			return p.present(dst, r)
		}
		hole, err := unix.Seek(int(f.Fd()), data, unix.SEEK_HOLE)
		if err != nil || hole <= data {
			return p.present(dst, r)
		}
		from := (r.Addr + uint64(data) - r.Offset) &^ (p.page - 1)
		to := (r.Addr + uint64(min(hole, end)) - r.Offset + p.page - 1) &^ (p.page - 1)
		dst = appendExtent(dst, coredump.Extent{Addr: from, Size: to - from})
		at = hole
	}
	return dst, nil
}

// present are the pages of a region that are in memory.
func (p *pages) present(dst []coredump.Extent, r *region) ([]coredump.Extent, error) {
	err := p.each(r.Extent, func(e coredump.Extent, c uint64) {
		if c&pageZero == 0 {
			dst = appendExtent(dst, e)
		}
	})
	return dst, err
}

// appendExtent adds an extent behind the others, to the last one if it touches.
func appendExtent(dst []coredump.Extent, e coredump.Extent) []coredump.Extent {
	if n := len(dst); n > 0 && dst[n-1].End() == e.Addr {
		dst[n-1].Size += e.Size
		return dst
	}
	return append(dst, e)
}

// maxExtents bounds the table of a core: memory in which every other page is
// missing would need more for that than it is worth.
const maxExtents = 32 << 10

// coarse closes the smallest gaps between extents of one region each until
// there are few enough. What is in the gaps reads as zeros.
func coarse(list []coredump.Extent, regions []region, page uint64) []coredump.Extent {
	for gap := page; len(list) > maxExtents; gap *= 2 {
		at := 0
		merged := list[:0]
		for _, e := range list {
			for at < len(regions) && regions[at].End() <= e.Addr {
				at++
			}
			if n := len(merged); n > 0 && at < len(regions) && merged[n-1].Addr >= regions[at].Addr && e.Addr-merged[n-1].End() <= gap {
				merged[n-1].Size = e.End() - merged[n-1].Addr
				continue
			}
			merged = append(merged, e)
		}
		list = slices.Clip(merged)
	}
	return list
}
