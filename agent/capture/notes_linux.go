package capture

import (
	"encoding/binary"
	"strings"

	"github.com/goinquest/inquest/coredump"
)

// Types of notes in a core (elf.h, and the kernel's include/uapi/linux/elf.h).
const (
	noteStatus    = 1
	noteFloats    = 2
	noteInfo      = 3
	noteAuxv      = 6
	noteXState    = 0x202
	noteARMTLS    = 0x401
	noteFiles     = 0x46494c45
	noteSignal    = 0x53494749
	signalSize    = 128
	infoSize      = 136
	infoName      = 40 // where pr_fname is in struct elf_prpsinfo
	infoArgs      = 56 // and pr_psargs
	statusRegs    = 112
	maxNoteValues = 4 << 20
)

// registerSet is one set of a thread's registers as the kernel gives it.
type registerSet struct {
	note int
	data []byte
}

// stoppedThread is a thread with its registers.
type stoppedThread struct {
	tid  int
	sets []registerSet // the general ones first
}

// identity is what the notes say of a process beside its threads.
type identity struct {
	pid, ppid, pgrp, sid int
	uid, gid             int
	name, args           string
	signal               int
	auxv                 []byte
	page                 uint64
}

// notes are those of a core in the order the kernel has them: the first
// thread, the process, the other threads.
func notes(id *identity, threads []stoppedThread, regions []region) []byte {
	var b []byte
	for i, t := range threads {
		for j, set := range t.sets {
			owner := "CORE"
			data := set.data
			switch set.note {
			case noteStatus:
				data = status(id, t.tid, data)
			case noteXState, noteARMTLS:
				owner = "LINUX"
			}
			b = appendNote(b, owner, set.note, data)
			if i == 0 && j == 0 {
				b = appendProcess(b, id, regions)
			}
		}
	}
	return b
}

func appendProcess(b []byte, id *identity, regions []region) []byte {
	b = appendNote(b, "CORE", noteInfo, info(id))
	signal := make([]byte, signalSize)
	binary.NativeEndian.PutUint32(signal, uint32(id.signal))
	b = appendNote(b, "CORE", noteSignal, signal)
	b = appendNote(b, "CORE", noteAuxv, id.auxv)
	return appendNote(b, "CORE", noteFiles, files(regions, id.page))
}

// appendNote adds one note; names and values are padded to four bytes (elf(5)).
func appendNote(b []byte, owner string, kind int, value []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(len(owner)+1))
	b = binary.NativeEndian.AppendUint32(b, uint32(len(value)))
	b = binary.NativeEndian.AppendUint32(b, uint32(kind))
	b = pad(append(append(b, owner...), 0))
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// status is struct elf_prstatus around the general registers.
func status(id *identity, tid int, regs []byte) []byte {
	b := make([]byte, statusRegs, statusRegs+len(regs)+8)
	e := binary.NativeEndian
	e.PutUint32(b[0:], uint32(id.signal))
	e.PutUint16(b[12:], uint16(id.signal))
	for i, v := range []int{tid, id.ppid, id.pgrp, id.sid} {
		e.PutUint32(b[32+4*i:], uint32(v))
	}
	b = append(b, regs...)
	return append(b, 1, 0, 0, 0, 0, 0, 0, 0) // pr_fpvalid
}

// info is struct elf_prpsinfo.
func info(id *identity) []byte {
	b := make([]byte, infoSize)
	b[1] = 'R'
	e := binary.NativeEndian
	for i, v := range []int{id.uid, id.gid, id.pid, id.ppid, id.pgrp, id.sid} {
		e.PutUint32(b[16+4*i:], uint32(v))
	}
	copy(b[infoName:infoArgs-1], id.name)
	copy(b[infoArgs:infoSize-1], id.args)
	return b
}

// files is the value of NT_FILE: which files are mapped where.
func files(regions []region, page uint64) []byte {
	var b []byte
	var names strings.Builder
	count := uint64(0)
	e := binary.NativeEndian
	b = append(b, make([]byte, 16)...)
	for i := range regions {
		r := &regions[i]
		if r.Inode == 0 || len(b)+names.Len() > maxNoteValues {
			continue
		}
		count++
		for _, v := range []uint64{r.Addr, r.End(), r.Offset / page} {
			b = e.AppendUint64(b, v)
		}
		names.WriteString(r.Path)
		if r.deleted {
			names.WriteString(deletedSuffix)
		}
		names.WriteByte(0)
	}
	e.PutUint64(b[0:], count)
	e.PutUint64(b[8:], page)
	return append(b, names.String()...)
}

// registers are those of a thread that are needed to look at it.
func registers(arch string, sets []registerSet) coredump.Registers {
	word := func(data []byte, n int) uint64 {
		if len(data) < 8*(n+1) {
			return 0
		}
		return binary.NativeEndian.Uint64(data[8*n:])
	}
	var r coredump.Registers
	for _, s := range sets {
		switch {
		case s.note == noteStatus && arch == "amd64": // struct user_regs_struct
			r.PC, r.SP, r.FP, r.TLS, r.G = word(s.data, 16), word(s.data, 19), word(s.data, 4), word(s.data, 21), word(s.data, 1)
		case s.note == noteStatus: // struct user_pt_regs
			r.PC, r.SP, r.FP, r.LR, r.G = word(s.data, 32), word(s.data, 31), word(s.data, 29), word(s.data, 30), word(s.data, 28)
		case s.note == noteARMTLS:
			r.TLS = word(s.data, 0)
		}
	}
	return r
}
