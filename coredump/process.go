package coredump

import "io"

// Extent is a range of a process's addresses.
type Extent struct {
	Addr uint64 `json:"addr"`
	Size uint64 `json:"size"` // bytes
}

// End is the first address behind the extent.
func (e Extent) End() uint64 { return e.Addr + e.Size }

// Mapping is one mapping of a process.
type Mapping struct {
	Extent
	Flags  uint32 // elf.PF_R, PF_W, PF_X
	Offset uint64 // in the file
	Inode  uint64 // 0: no file is mapped
	Path   string // "" if there is none; "[heap]", "[stack]", "[vdso]" and the like are the kernel's names
	Shared bool   // not private
	NoDump bool   // the process asked that it be not dumped (madvise MADV_DONTDUMP)
	IO     bool   // memory of a device, not to be touched
}

// Registers are what is needed of a thread's registers.
type Registers struct {
	PC, SP, FP uint64
	LR         uint64 // arm64
	TLS        uint64 // fs_base, tpidr_el0; 0 if unknown
	G          uint64 // where Go keeps the current goroutine: r14, x28
}

// Thread is one thread of a process.
type Thread struct {
	TID    int
	Signal int // that it was stopped by, 0 if none
	Registers
}

// Process is a process, live or dead, as far as it can be read.
type Process struct {
	Arch     string   // "amd64", "arm64"
	PageSize uint64   // bytes
	Threads  []Thread // the one that died first
	Mappings []Mapping
	Auxv     map[uint64]uint64 // of <elf.h>: AT_PHDR, AT_ENTRY, …
	// Memory is read at addresses. What is missing is an error of kind
	// inquest.ErrNotFound, never zeros.
	Memory io.ReaderAt
	// Exe is the executable, ExeSize its size in bytes; nil if it is not at hand.
	Exe     io.ReaderAt
	ExeSize int64
}
