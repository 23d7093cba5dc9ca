package capture

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/goinquest/inquest/coredump"
)

// Bits of a segment's flags (elf(5), p_flags).
const (
	flagX = 1 << iota
	flagW
	flagR
)

// region is a mapping of a live process with what only the kernel knows of it.
type region struct {
	coredump.Mapping
	huge    bool // pages of hugetlbfs
	deleted bool // the file has no name: shared memory of a family of processes
}

// parseMaps reads /proc/PID/maps or /proc/PID/smaps (proc(5)). Only the second
// has flags, so what of a process is not to be dumped. Lines it cannot read
// are left out.
func parseMaps(data []byte) []region {
	var out []region
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if len(line) == 0 {
			continue
		}
		if line[0] >= 'A' && line[0] <= 'Z' {
			if flags, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok && len(out) > 0 {
				out[len(out)-1].setFlags(flags)
			}
			continue
		}
		if r, ok := parseMapping(string(line)); ok {
			out = append(out, r)
		}
	}
	return out
}

// parseMapping reads "start-end perms offset dev inode path".
func parseMapping(line string) (region, bool) {
	var r region
	field := func() (f string) {
		line = strings.TrimLeft(line, " ")
		f, line, _ = strings.Cut(line, " ")
		return f
	}
	from, to, _ := strings.Cut(field(), "-")
	perms, offset, _, inode := field(), field(), field(), field()
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	off, err3 := strconv.ParseUint(offset, 16, 64)
	ino, err4 := strconv.ParseUint(inode, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || end <= start || len(perms) != 4 {
		return r, false
	}
	r.Addr, r.Size, r.Offset, r.Inode = start, end-start, off, ino
	for i, bit := range []uint32{flagR, flagW, flagX} {
		if perms[i] != '-' {
			r.Flags |= bit
		}
	}
	r.Shared = perms[3] == 's'
	// The kernel escapes newlines in names, and nothing else.
	r.Path = strings.ReplaceAll(strings.TrimLeft(line, " "), `\012`, "\n")
	if ino != 0 {
		r.Path, r.deleted = strings.CutSuffix(r.Path, deletedSuffix)
	}
	return r, true
}

// setFlags reads the two-letter flags of one mapping.
func (r *region) setFlags(flags []byte) {
	for f := range bytes.FieldsSeq(flags) {
		switch string(f) {
		case "dd":
			r.NoDump = true
		case "io", "pf":
			r.IO = true
		case "ht":
			r.huge = true
		}
	}
}

// keep is how much of a region belongs into a core.
type keep uint8

const (
	keepNone   keep = iota
	keepFirst       // the first page, where it is the header of an ELF file
	keepPages       // what is in memory; the rest is zero
	keepData        // what is in memory of a shared file without a name; the rest is zero
	keepChange      // everything, if the process wrote to any of it; else as keepFirst
	keepAll
)

// Bits of /proc/PID/coredump_filter, see core(5).
const (
	filterPrivate    = 1 << iota // anonymous memory, and private pages of files
	filterShared                 // shared memory without a file
	filterFile                   // private mappings of files, as they are in the file
	filterSharedFile             // shared mappings of files
	filterHeaders                // first pages of ELF files
	filterHuge                   // private huge pages
	filterSharedHuge             // shared huge pages

	defaultFilter = filterPrivate | filterShared | filterHeaders | filterHuge
)

// keep says what of the region the kernel would write into a core.
// It follows vma_dump_size of the kernel's fs/coredump.c.
func (r *region) keep(filter uint64) keep {
	has := func(bit uint64) bool { return filter&bit != 0 }
	switch {
	case r.Path == "[vdso]":
		return keepAll
	case r.NoDump, r.IO, strings.HasPrefix(r.Path, "[vvar"), r.Path == "[vsyscall]":
		return keepNone
	case r.huge && r.Shared:
		return onlyIf(has(filterSharedHuge), keepPages)
	case r.huge:
		return onlyIf(has(filterHuge), keepPages)
	case r.Shared && (r.deleted || r.Inode == 0):
		return onlyIf(has(filterShared), keepData)
	case r.Shared:
		return onlyIf(has(filterSharedFile), keepAll)
	case r.Inode == 0:
		return onlyIf(has(filterPrivate), keepPages)
	case has(filterFile):
		return keepAll
	case has(filterPrivate):
		return keepChange
	default:
		return onlyIf(has(filterHeaders), keepFirst)
	}
}

func onlyIf(ok bool, k keep) keep {
	if !ok {
		return keepNone
	}
	return k
}
