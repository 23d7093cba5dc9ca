package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/goinquest/inquest"
)

// A frame is what one commit writes: a header, an index that says in plain
// which records there are (so that keys are found fast at start), and the
// records' payloads, compressed together.

// indexed is one record as the index of its frame has it.
type indexed struct {
	epoch    uint64
	service  string
	key      inquest.Key
	hash     uint64
	start    int64 // unix ns
	samples  uint32
	flags    uint8
	baseline string // name, "" if the record has none
	size     int    // of its payload
	state    int    // of its baseline, which follows the payload
}

// frame is one that was read.
type frame struct {
	number  uint64 // counts frames over all files
	size    int64  // in the file, header included
	index   []byte
	payload []byte // stored
	raw     int
}

// frameWriter makes frames; it reuses its memory.
type frameWriter struct {
	pk             *packer
	index, payload []byte
	out            []byte
}

// frame packs records. The result is valid until the next call.
func (w *frameWriter) frame(number uint64, recs []*record) []byte {
	w.index = binary.AppendUvarint(w.index[:0], uint64(len(recs)))
	w.payload = w.payload[:0]
	for _, r := range recs {
		w.index = appendIndexed(w.index, r)
		w.payload = append(w.payload, r.payload...)
		w.payload = append(w.payload, r.baseline...)
	}
	out := append(w.out[:0], make([]byte, frameHeaderSize)...)
	out = append(out, w.index...)
	at := len(out)
	out, _ = w.pk.pack(out, w.payload)
	stored := out[at:]
	copy(out, magicLogFrame)
	binary.LittleEndian.PutUint32(out[4:], uint32(len(w.index)))
	binary.LittleEndian.PutUint32(out[8:], uint32(len(stored)))
	binary.LittleEndian.PutUint32(out[12:], uint32(len(w.payload)))
	binary.LittleEndian.PutUint64(out[16:], number)
	binary.LittleEndian.PutUint32(out[24:], checksum(stored))
	binary.LittleEndian.PutUint32(out[28:], frameHeadSum(out, w.index))
	w.out = out
	return out
}

// frameHeadSum is the checksum over the header and the index, which is how a
// reader knows that the lengths in the header can be believed.
func frameHeadSum(header, index []byte) uint32 {
	return updateChecksum(checksum(header[:28]), index)
}

func appendIndexed(dst []byte, r *record) []byte {
	dst = binary.AppendUvarint(dst, r.head.epoch)
	dst = appendString(dst, r.head.service)
	dst = append(dst, r.row.key[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, r.row.hash)
	dst = appendVarint(dst, r.row.start)
	dst = binary.AppendUvarint(dst, uint64(r.row.samples))
	dst = append(dst, r.row.flags)
	dst = appendString(dst, r.name)
	dst = binary.AppendUvarint(dst, uint64(len(r.payload)))
	return binary.AppendUvarint(dst, uint64(len(r.baseline)))
}

var errFrame = errors.New("no frame here")

// frameLengths reads the fixed part of a frame's header.
func frameLengths(h []byte) (index, payload int, err error) {
	if len(h) < frameHeaderSize || string(h[:4]) != magicLogFrame {
		return 0, 0, errFrame
	}
	i, p := binary.LittleEndian.Uint32(h[4:]), binary.LittleEndian.Uint32(h[8:])
	if i > maxIndexBytes || p > maxStreamBytes {
		return 0, 0, errFrame
	}
	return int(i), int(p), nil
}

// readFrameHead reads header and index; the payload is not looked at.
func readFrameHead(h, index []byte) (*frame, error) {
	n, p, err := frameLengths(h)
	if err != nil {
		return nil, err
	}
	if n != len(index) || frameHeadSum(h, index) != binary.LittleEndian.Uint32(h[28:]) {
		return nil, errFrame
	}
	return &frame{
		number: binary.LittleEndian.Uint64(h[16:]),
		size:   int64(frameHeaderSize + n + p),
		index:  index,
		raw:    int(binary.LittleEndian.Uint32(h[12:])),
	}, nil
}

// records reads a frame's index.
func (f *frame) records() ([]indexed, error) {
	c := cursor{b: f.index}
	out := make([]indexed, 0, min(c.count(), len(f.index)/32+1))
	c = cursor{b: f.index}
	total := 0
	for range c.count() {
		var x indexed
		x.epoch, x.service = c.uvarint(), c.string()
		copy(x.key[:], c.bytes(len(x.key)))
		x.hash, x.start = c.u64(), c.varint()
		x.samples, x.flags = uint32(c.bounded(maxStreamBytes)), c.byte()
		x.baseline = c.string()
		x.size, x.state = c.bounded(f.raw), c.bounded(f.raw)
		total += x.size + x.state
		if c.bad {
			return nil, errors.New("index is damaged")
		}
		out = append(out, x)
	}
	if total != f.raw {
		return nil, errors.New("index does not fit the payload")
	}
	return out, nil
}

// unpack returns the payloads of a frame's records, one after another.
func (f *frame) unpack(pk *packer, h []byte) ([]byte, error) {
	if checksum(f.payload) != binary.LittleEndian.Uint32(h[24:]) {
		return nil, errors.New("payload is damaged")
	}
	codec := uint8(codecZstd)
	if len(f.payload) == f.raw {
		codec = codecRaw
	}
	return pk.unpack(f.payload, codec, f.raw)
}

// appendGrowth writes the dictionary's entries between two marks.
func appendGrowth(dst []byte, t *tables, from, to marks) []byte {
	mask := uint64(0)
	for i := range from {
		if to[i] > from[i] {
			mask |= 1 << i
		}
	}
	dst = binary.AppendUvarint(dst, mask)
	for i := range from {
		if to[i] > from[i] {
			dst = binary.AppendUvarint(dst, uint64(from[i]))
			dst = appendTable(dst, t, i, from[i], to[i])
		}
	}
	return dst
}

// readGrowth adds what appendGrowth wrote. Entries that are there already (a
// refused record that reached the disk after all was followed by one that
// logged them again) are replaced by themselves.
func readGrowth(c *cursor, d *dict) error {
	mask := c.uvarint()
	if mask >= 1<<numTables {
		return errors.New("growth is damaged")
	}
	for i := range numTables {
		if mask>>i&1 == 0 {
			continue
		}
		from, have := c.uvarint(), uint64(d.marks()[i])
		if from > have {
			return fmt.Errorf("entries %d to %d of table %d are missing", have, from, i)
		}
		if from < uint64(firstMarks[i]) {
			return errors.New("growth is damaged")
		}
		d.cut(i, uint32(from))
		readTable(c, &d.tables, i)
		if i == tabStrings && !c.bad {
			d.bytes += ownText(d.strings[from:]) // else they would keep whole frames in memory
		}
		if c.bad || uint64(d.marks()[i]) < have {
			return errors.New("growth is damaged")
		}
	}
	d.derive()
	return nil
}

func appendUvarint32(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }
