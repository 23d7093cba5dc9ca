package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/goinquest/inquest"
)

// The file of a binary is a header, the binary in frames that are compressed
// each for itself, an index of these, a document that says what it is, and a
// footer. So ranges can be read, and the catalog's row can be made again.

// binFrameBytes is how much of a binary is in one frame.
const binFrameBytes = 256 << 10

// maxBinaryDocument bounds the document of a binary.
const maxBinaryDocument = 4 << 20

// maxBinaryBytes bounds what is believed of a file's footer.
const maxBinaryBytes = 1 << 40

var errBinary = errors.New("file of a binary is damaged")

// writeBinary writes the file of a binary of that size and checks that it has
// the announced SHA-256; the row gets what it takes on the disk.
func writeBinary(w io.Writer, pk *packer, r io.Reader, row *StoredBinary) error {
	sum := sha256.New()
	out := binary.LittleEndian.AppendUint32([]byte(magicBinHead), binaryVersion)
	at := int64(len(out))
	if _, err := w.Write(out); err != nil {
		return err
	}
	var index []byte
	raw := make([]byte, binFrameBytes)
	for left := row.Bytes; left > 0; {
		raw = raw[:min(left, binFrameBytes)]
		if _, err := io.ReadFull(r, raw); err != nil {
			return err
		}
		sum.Write(raw)
		var codec uint8
		out, codec = pk.pack(out[:0], raw)
		if _, err := w.Write(out); err != nil {
			return err
		}
		index = binary.LittleEndian.AppendUint32(index, uint32(len(out))|uint32(codec)<<31)
		index = binary.LittleEndian.AppendUint32(index, checksum(out))
		at += int64(len(out))
		left -= int64(len(raw))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != row.SHA256 {
		return inquest.Errorf(inquest.ErrInvalid, "the bytes that came have the SHA-256 %s, not the announced %s: send all of them again", got, row.SHA256)
	}
	return writeBinaryEnd(w, at, index, row)
}

// writeBinaryEnd writes what follows the frames.
func writeBinaryEnd(w io.Writer, at int64, index []byte, row *StoredBinary) error {
	row.StoredBytes = at + int64(len(index)) + binFooterSize // without the document, which says so
	doc, err := json.Marshal(row)
	if err != nil {
		return err
	}
	if len(doc) > maxBinaryDocument {
		return inquest.Errorf(inquest.ErrTooLarge, "what the binary says of itself takes %d bytes, %d are the most", len(doc), maxBinaryDocument)
	}
	foot := binary.LittleEndian.AppendUint64(nil, uint64(at))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(row.Bytes))
	foot = binary.LittleEndian.AppendUint32(foot, uint32(len(index)))
	foot = binary.LittleEndian.AppendUint32(foot, uint32(len(doc)))
	foot = binary.LittleEndian.AppendUint32(foot, updateChecksum(checksum(index), doc))
	foot = binary.LittleEndian.AppendUint32(foot, binaryVersion)
	foot = append(foot, magicBinFoot...)
	for _, b := range [...][]byte{index, doc, foot} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	row.StoredBytes += int64(len(doc))
	return nil
}

// BinaryFile reads a stored binary. It is safe for concurrent use.
type BinaryFile struct {
	blob   Blob
	pk     *packer
	size   int64
	doc    []byte
	frames []binFrame

	mu    sync.Mutex
	cache [binCached]cachedFrame
	clock int64
}

type binFrame struct {
	at     int64
	length int
	crc    uint32
	codec  uint8
}

// binCached is how many unpacked frames an open binary keeps.
const binCached = 4

type cachedFrame struct {
	frame int
	raw   []byte // nil: none
	used  int64
}

// openBinaryFile reads the end of a binary's file, which it takes over.
func openBinaryFile(blob Blob, pk *packer) (f *BinaryFile, err error) {
	defer func() {
		if err != nil {
			_ = blob.Close()
		}
	}()
	total, err := blob.Size()
	if err != nil {
		return nil, err
	}
	if total < binHeaderSize+binFooterSize {
		return nil, fmt.Errorf("%w: it has %d bytes", errBinary, total)
	}
	var head [binHeaderSize]byte
	foot := make([]byte, binFooterSize)
	if err := readFull(blob, head[:], 0); err != nil {
		return nil, err
	}
	if err := readFull(blob, foot, total-binFooterSize); err != nil {
		return nil, err
	}
	if string(head[:4]) != magicBinHead || string(foot[32:]) != magicBinFoot {
		return nil, fmt.Errorf("%w: it does not begin or end as one", errBinary)
	}
	if v := binary.LittleEndian.Uint32(foot[28:]); v != binaryVersion || binary.LittleEndian.Uint32(head[4:]) != v {
		return nil, fmt.Errorf("%w %d, this one reads %d", errVersion, v, binaryVersion)
	}
	f = &BinaryFile{blob: blob, pk: pk, size: int64(binary.LittleEndian.Uint64(foot[8:]))}
	at := int64(binary.LittleEndian.Uint64(foot))
	index, doc := int64(binary.LittleEndian.Uint32(foot[16:])), int64(binary.LittleEndian.Uint32(foot[20:]))
	if f.size < 0 || f.size > maxBinaryBytes || doc > maxBinaryDocument || at < binHeaderSize || at+index+doc+binFooterSize != total ||
		index != (f.size+binFrameBytes-1)/binFrameBytes*binIndexEntry {
		return nil, fmt.Errorf("%w: its footer cannot be", errBinary)
	}
	raw := make([]byte, index+doc)
	if err := readFull(blob, raw, at); err != nil {
		return nil, err
	}
	if checksum(raw) != binary.LittleEndian.Uint32(foot[24:]) {
		return nil, fmt.Errorf("%w: checksum of its index does not match", errBinary)
	}
	f.doc = raw[index:]
	return f, f.readIndex(raw[:index], at)
}

// readFull fills b, which is not empty, from an offset.
func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readIndex takes the index of frames, which end at an offset.
func (f *BinaryFile) readIndex(index []byte, end int64) error {
	at := int64(binHeaderSize)
	f.frames = make([]binFrame, 0, len(index)/binIndexEntry)
	for ; len(index) > 0; index = index[binIndexEntry:] {
		word := binary.LittleEndian.Uint32(index)
		fr := binFrame{at: at, length: int(word &^ (1 << 31)), crc: binary.LittleEndian.Uint32(index[4:]), codec: uint8(word >> 31)}
		if fr.length > binFrameBytes {
			return fmt.Errorf("%w: a frame has %d bytes", errBinary, fr.length)
		}
		at += int64(fr.length)
		f.frames = append(f.frames, fr)
	}
	if at != end {
		return fmt.Errorf("%w: its frames end at %d, not %d", errBinary, at, end)
	}
	return nil
}

// row is what the file says of itself.
func (f *BinaryFile) row() (*StoredBinary, error) {
	row := &StoredBinary{}
	if err := json.Unmarshal(f.doc, row); err != nil {
		return nil, fmt.Errorf("%w: %w", errBinary, err)
	}
	if row.Bytes != f.size {
		return nil, fmt.Errorf("%w: it says two sizes", errBinary)
	}
	row.StoredBytes += int64(len(f.doc))
	return row, nil
}

// Size is that of the binary in bytes.
func (f *BinaryFile) Size() int64 { return f.size }

// Close closes the file.
func (f *BinaryFile) Close() error { return f.blob.Close() }

// ReadAt reads a range of the binary; what it reads was verified.
func (f *BinaryFile) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read binary at %d", off)
	}
	for n < len(p) {
		if off >= f.size {
			return n, io.EOF
		}
		got, err := f.copyFrame(p[n:], int(off/binFrameBytes), int(off%binFrameBytes))
		if err != nil {
			return n, err
		}
		n += got
		off += int64(got)
	}
	return n, nil
}

// copyFrame copies from a frame, unpacking it if it was not used just before.
func (f *BinaryFile) copyFrame(p []byte, frame, from int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock++
	oldest := 0
	for i := range f.cache {
		c := &f.cache[i]
		if c.raw != nil && c.frame == frame {
			c.used = f.clock
			return copy(p, c.raw[from:]), nil
		}
		if c.used < f.cache[oldest].used {
			oldest = i
		}
	}
	raw, err := f.frame(frame)
	if err != nil {
		return 0, err
	}
	f.cache[oldest] = cachedFrame{frame, raw, f.clock}
	return copy(p, raw[from:]), nil
}

// stored reads a frame as it is stored.
func (f *BinaryFile) stored(i int) ([]byte, error) {
	fr := &f.frames[i]
	stored := make([]byte, fr.length)
	if err := readFull(f.blob, stored, fr.at); err != nil {
		return nil, err
	}
	if checksum(stored) != fr.crc {
		return nil, fmt.Errorf("%w: checksum of frame %d does not match", errBinary, i)
	}
	return stored, nil
}

// frame reads and unpacks a frame.
func (f *BinaryFile) frame(i int) ([]byte, error) {
	stored, err := f.stored(i)
	if err != nil {
		return nil, err
	}
	return f.pk.unpack(stored, f.frames[i].codec, int(min(f.size-int64(i)*binFrameBytes, binFrameBytes)))
}
