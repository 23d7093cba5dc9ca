package testprog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"
)

// Notes is the content of the PT_NOTE segment that a core of the process has
// (binfmt_elf's fill_note_info), without floating point registers.
func (h *Held) Notes() []byte {
	le := binary.LittleEndian
	var out []byte
	note := func(kind uint32, desc []byte) {
		out = le.AppendUint32(out, 5)
		out = le.AppendUint32(out, uint32(len(desc)))
		out = le.AppendUint32(out, kind)
		out = append(append(out, "CORE\x00\x00\x00\x00"...), desc...)
		out = append(out, make([]byte, -len(out)&3)...)
	}
	for i := range h.regs {
		var status [336]byte // struct elf_prstatus
		le.PutUint32(status[0:], uint32(h.Signal))
		le.PutUint16(status[12:], uint16(h.Signal))
		le.PutUint32(status[32:], uint32(h.Threads[i].TID))
		r := h.regs[i] // has the order of the kernel
		copy(status[112:], unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)))
		note(1, status[:])
		if i == 0 {
			var info [136]byte // struct elf_prpsinfo
			le.PutUint32(info[24:], uint32(h.PID))
			copy(info[40:55], "crasher")
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", h.PID))
			copy(info[56:135], bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '}))
			note(3, info[:])
			auxv, _ := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", h.PID))
			note(6, auxv)
			note(0x46494c45, h.files())
		}
	}
	return out
}

// files is an NT_FILE note.
func (h *Held) files() []byte {
	le := binary.LittleEndian
	var rows, names []byte
	n := uint64(0)
	for _, m := range h.Mappings {
		if m.Inode == 0 {
			continue
		}
		n++
		rows = le.AppendUint64(rows, m.Addr)
		rows = le.AppendUint64(rows, m.End())
		rows = le.AppendUint64(rows, m.Offset/h.PageSize)
		names = append(append(names, m.Path...), 0)
	}
	head := le.AppendUint64(nil, n)
	head = le.AppendUint64(head, h.PageSize)
	return append(append(head, rows...), names...)
}
