package symbolize

import "github.com/goinquest/inquest"

// The words of the runtime's module data that are looked at. They lie the
// same from Go 1.20 to 1.26 (runtime/symtab.go, type moduledata).
const (
	moduleNames   = 1  // address of the pool of names
	moduleTable   = 13 // address of the rows of functions; the length of all behind it follows
	moduleRows    = 16 // the same address; the number of rows follows
	moduleMinPC   = 20
	moduleMaxPC   = 21
	moduleText    = 22
	moduleEndText = 23
	moduleData    = 24 // start and end of each of noptrdata, data, bss, noptrbss
	moduleTypes   = 37 // start and end
	moduleGofunc  = 40
	moduleWords   = 41
)

// What hostile files may make us look at.
const (
	maxPointers    = 1000 // to the table of functions in data
	maxRelocations = 8    // to it, with the rest of the module data in relocations
	chunkBytes     = 1 << 17
)

// readModule finds the module data: it begins with the address of the table
// of functions. Go 1.26 gives it a section of its own; before that it is
// somewhere in the data. Where a program may be loaded anywhere, the words
// can be in relocations and zero in the data.
func (t *pclntab) readModule() error {
	f := t.f
	header := make([]byte, 8)
	f.order.PutUint64(header, t.addr)
	tries := maxPointers
	check := func(addr uint64) bool {
		tries--
		words, err := f.words(addr)
		return err == nil && t.takeModule(words) || tries <= 0
	}
	var places []segment
	for _, name := range []string{".go.module", ".noptrdata"} {
		if s := f.section(name); s != nil && s.kind != sectionNoBits && f.inFile(s.off, s.size) {
			places = append(places, segment{off: s.off, addr: s.addr, filesz: s.size})
		}
	}
	for _, s := range f.segments {
		if s.kind == segmentLoad && s.flags&segmentWrite != 0 && f.inFile(s.off, s.filesz) {
			places = append(places, s)
		}
	}
	for _, s := range places {
		if err := f.scan(s, header, check); err != nil || t.text != 0 {
			return err
		}
	}
	if err := t.relocatedModule(); err != nil || t.text != 0 {
		return err
	}
	return inquest.Errorf(inquest.ErrInvalid, "Go's table of functions is there, but not the module data that belongs to it")
}

// words reads what could be module data.
func (f *image) words(addr uint64) ([]uint64, error) {
	b, err := f.readAddr(addr, moduleWords*8)
	if err != nil {
		return nil, err
	}
	words := make([]uint64, moduleWords)
	for i := range words {
		words[i] = f.word(b, i*8)
	}
	return words, nil
}

// relocatedModule looks for module data in relocations: where is the address
// of the table put, and what else comes near it?
func (t *pclntab) relocatedModule() error {
	f := t.f
	var found []uint64
	err := f.relative(func(at, value uint64) {
		if value == t.addr && len(found) < maxRelocations {
			found = append(found, at)
		}
	})
	for _, addr := range found {
		words, wordsErr := f.words(addr)
		if err != nil || wordsErr != nil {
			continue
		}
		err = f.relative(func(at, value uint64) {
			if i := at - addr; i < moduleWords*8 && i%8 == 0 {
				words[i/8] = value
			}
		})
		if err == nil && t.takeModule(words) {
			return nil
		}
	}
	return err
}

// relative calls yield for all relocations that only depend on where the
// file is loaded: at is what they change, value what they put there if that
// is address 0.
func (f *image) relative(yield func(at, value uint64)) error {
	const row = 24 // Elf64_Rela
	addr, size := f.dynamic(dynamicRela), f.dynamic(dynamicRelaSz)
	buf := make([]byte, min(size, chunkBytes)/row*row)
	for size >= row {
		b := buf[:min(uint64(len(buf)), size/row*row)]
		n := uint64(len(b))
		if off, left, ok := f.fileRange(addr); !ok || n > left {
			return inquest.Errorf(inquest.ErrInvalid, "%d bytes of relocations at address %#x are not in the file", n, addr)
		} else if err := f.readInto(b, off); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[row:] {
			if f.order.Uint64(b[8:])>>32 == 0 { // no symbol
				yield(f.order.Uint64(b), f.order.Uint64(b[16:]))
			}
		}
		addr, size = addr+n, size-n
	}
	return nil
}

// takeModule takes over what module data says if it is that of this table.
func (t *pclntab) takeModule(w []uint64) bool {
	size, text := w[moduleTable+1], w[moduleText]
	ours := w[0] == t.addr && w[moduleNames] == t.addr+t.nameOff &&
		w[moduleTable] == t.addr+t.pclnOff && w[moduleRows] == w[moduleTable] && w[moduleRows+1] == uint64(t.nfunc)+1
	if !ours || text == 0 || text > w[moduleEndText] || w[moduleMinPC] < text || w[moduleMaxPC] > w[moduleEndText] {
		return false
	}
	if size > maxPartBytes || size < uint64(t.nfunc)*8+4 {
		return false
	}
	t.text, t.gofunc, t.bytes = text, w[moduleGofunc], t.pclnOff+size
	for i := range t.data {
		t.data[i] = Range{w[moduleData+2*i], w[moduleData+2*i+1]}
	}
	t.types = Range{w[moduleTypes], w[moduleTypes+1]}
	return true
}
