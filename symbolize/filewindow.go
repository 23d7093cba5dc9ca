package symbolize

// fileWindow reads small pieces of a file and keeps pages of it. It is not
// safe for concurrent use.
type fileWindow struct {
	f     *image
	pages [windowPages]filePage
	buf   []byte // pieces that no page has whole
}

const (
	windowPages     = 64 // a power of two
	windowPageBytes = 4 << 10
)

type filePage struct {
	no uint64 // number of the page +1; 0: there is none
	b  []byte
}

// read returns n bytes at an offset of the file. They are valid until the next
// call.
func (w *fileWindow) read(off, n uint64) ([]byte, error) {
	if n > windowPageBytes {
		b, err := w.f.read(off, n)
		return b, err
	}
	page, err := w.page(off / windowPageBytes)
	if err != nil {
		return nil, err
	}
	at := off % windowPageBytes
	if at+n <= uint64(len(page)) {
		return page[at : at+n : at+n], nil
	}
	w.buf = append(w.buf[:0], page[min(at, uint64(len(page))):]...)
	if page, err = w.page(off/windowPageBytes + 1); err != nil {
		return nil, err
	}
	if w.buf = append(w.buf, page...); uint64(len(w.buf)) < n {
		return nil, errRow
	}
	return w.buf[:n:n], nil
}

// page returns one page; the last one of the file is shorter.
func (w *fileWindow) page(no uint64) ([]byte, error) {
	slot := &w.pages[no%windowPages]
	if slot.no == no+1 {
		return slot.b, nil
	}
	off := no * windowPageBytes
	if off >= w.f.size {
		return nil, errRow
	}
	if slot.b == nil {
		slot.b = make([]byte, windowPageBytes)
	}
	slot.no = 0
	slot.b = slot.b[:min(windowPageBytes, w.f.size-off)]
	if err := w.f.readInto(slot.b, off); err != nil {
		return nil, err
	}
	slot.no = no + 1
	return slot.b, nil
}
