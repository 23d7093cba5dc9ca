package coredump

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/goinquest/inquest"
)

// Notes of a core (Linux' elf.h, elfcore.h, siginfo.h).
const (
	noteStatus  = 1          // NT_PRSTATUS, one per thread
	noteProcess = 3          // NT_PRPSINFO
	noteAuxv    = 6          // NT_AUXV
	noteSiginfo = 0x53494749 // NT_SIGINFO
	noteFile    = 0x46494c45 // NT_FILE
	noteTLS     = 0x401      // NT_ARM_TLS, of the thread before it

	noteOwner   = "Inquest\x00"
	noteInquest = 0x51435251 // of that owner: JSON of inquest.Core

	statusSignal  = 12  // pr_cursig in struct elf_prstatus
	statusPID     = 32  // pr_pid
	statusRegs    = 112 // pr_reg
	processUID    = 16  // pr_uid in struct elf_prpsinfo
	processPID    = 24  // pr_pid
	processName   = 40  // pr_fname, 16 bytes
	processArgs   = 56  // pr_psargs, 80 bytes
	processLength = 136

	amd64Regs = 27 // of user_regs_struct, 8 bytes each
	arm64Regs = 34 // of user_pt_regs

	auxvPageSize = 6 // AT_PAGESZ
	auxvPHDR     = 3 // AT_PHDR

	maxMappings = 1 << 20
	maxPath     = 4096 // of a mapped file; longer ones are cut
)

// appendNote appends a note.
func appendNote(b []byte, owner string, kind uint32, desc []byte) []byte {
	b = wire.AppendUint32(b, uint32(len(owner)))
	b = wire.AppendUint32(b, uint32(len(desc)))
	b = wire.AppendUint32(b, kind)
	b = append(b, owner...)
	b = append(b, make([]byte, -len(owner)&3)...)
	b = append(b, desc...)
	return append(b, make([]byte, -len(desc)&3)...)
}

// walkNotes calls f for each note, and reports whether all of b was notes.
func walkNotes(b []byte, f func(owner string, kind uint32, desc []byte)) bool {
	pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(b) >= 12 {
		owner, desc, kind := uint64(wire.Uint32(b)), uint64(wire.Uint32(b[4:])), wire.Uint32(b[8:])
		at := 12 + pad(owner)
		if at+desc > uint64(len(b)) {
			return false
		}
		f(string(bytes.TrimRight(b[12:12+min(owner, 64)], "\x00")), kind, b[at:at+desc])
		b = b[min(at+pad(desc), uint64(len(b))):]
	}
	return len(b) == 0
}

// mappedFile is one line of NT_FILE.
type mappedFile struct {
	Extent
	off  uint64 // in the file
	path string
}

// noted is what the notes of a core say.
type noted struct {
	machine uint16
	threads []Thread
	auxv    map[uint64]uint64
	files   []mappedFile
	pid     int
	uid     int
	name    string
	args    string
	signal  int
	core    *inquest.Core
}

// parseNotes reads the notes of a core. What is not understood is left out.
func parseNotes(machine uint16, b []byte) *noted {
	n := &noted{machine: machine}
	walkNotes(b, func(owner string, kind uint32, desc []byte) {
		switch {
		case owner == strings.TrimRight(noteOwner, "\x00"):
			if kind == noteInquest && len(desc) <= maxCoreBytes {
				c := &inquest.Core{}
				if json.Unmarshal(desc, c) == nil {
					n.core = c
				}
			}
		case kind == noteStatus:
			n.status(desc)
		case kind == noteTLS && len(desc) >= 8 && len(n.threads) > 0 && machine == machineARM64:
			n.threads[len(n.threads)-1].TLS = wire.Uint64(desc)
		case kind == noteProcess && len(desc) >= processLength:
			n.uid = int(wire.Uint32(desc[processUID:]))
			n.pid = int(int32(wire.Uint32(desc[processPID:])))
			n.name = cString(desc[processName : processName+16])
			n.args = strings.TrimRight(cString(desc[processArgs:processArgs+80]), " ")
		case kind == noteSiginfo && len(desc) >= 4:
			n.signal = int(int32(wire.Uint32(desc)))
		case kind == noteAuxv:
			n.aux(desc)
		case kind == noteFile:
			n.mapped(desc)
		}
	})
	if n.signal == 0 && len(n.threads) > 0 {
		n.signal = n.threads[0].Signal
	}
	return n
}

func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// status reads the registers of a thread.
func (n *noted) status(b []byte) {
	regs := amd64Regs
	if n.machine == machineARM64 {
		regs = arm64Regs
	}
	if len(b) < statusRegs+regs*8 {
		return
	}
	r := func(i int) uint64 { return wire.Uint64(b[statusRegs+8*i:]) }
	t := Thread{TID: int(int32(wire.Uint32(b[statusPID:]))), Signal: int(wire.Uint16(b[statusSignal:]))}
	if n.machine == machineARM64 {
		t.Registers = Registers{PC: r(32), SP: r(31), FP: r(29), LR: r(30), G: r(28)}
	} else {
		t.Registers = Registers{PC: r(16), SP: r(19), FP: r(4), TLS: r(21), G: r(1)}
	}
	n.threads = append(n.threads, t)
}

func (n *noted) aux(b []byte) {
	if n.auxv == nil {
		n.auxv = map[uint64]uint64{}
	}
	for ; len(b) >= 16; b = b[16:] {
		if k := wire.Uint64(b); k != 0 && len(n.auxv) < 128 {
			n.auxv[k] = wire.Uint64(b[8:])
		}
	}
}

// mapped reads which files are mapped where.
func (n *noted) mapped(b []byte) {
	if len(b) < 16 || len(n.files) > 0 {
		return
	}
	count, page := wire.Uint64(b), wire.Uint64(b[8:])
	if count > maxMappings || count*24 > uint64(len(b)-16) {
		return
	}
	names := b[16+count*24:]
	n.files = make([]mappedFile, 0, count)
	for i := range count {
		at := b[16+i*24:]
		name, rest, ok := bytes.Cut(names, []byte{0})
		if !ok {
			return
		}
		names = rest
		from, to := wire.Uint64(at), wire.Uint64(at[8:])
		if to <= from {
			continue
		}
		n.files = append(n.files, mappedFile{Extent{from, to - from}, wire.Uint64(at[16:]) * page, string(name[:min(len(name), maxPath)])})
	}
}
