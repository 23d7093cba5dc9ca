package store

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/goinquest/inquest"
)

// blockInfo is what the catalog has of a block: enough to know whether a
// query needs it and where its parts are. The same stands at the end of the
// block itself, so that a lost catalog can be made again.
type blockInfo struct {
	id       string
	size     int64 // of the file; not in the block's own copy
	created  int64 // unix ns
	epochs   []uint64
	keys     int
	keyList  stream
	keyInfo  stream
	parts    []partInfo
	from, to int64 // first and last start of all sections, unix ns
}

type partInfo struct {
	service   string
	directory stream
	sections  []sectionInfo
}

type sectionInfo struct {
	kind        inquest.Kind
	sampleTypes [][2]string // type and unit
	profiles    int
	from, until int64 // first and last start, unix ns
}

func (s *sectionInfo) types() []inquest.Type {
	types := make([]inquest.Type, len(s.sampleTypes))
	for i, t := range s.sampleTypes {
		types[i] = inquest.TypeOf(s.kind, t[0], t[1])
	}
	return types
}

func (s *sectionInfo) section() Section {
	return Section{Kind: s.kind, Types: s.types(), Profiles: s.profiles, From: unixTime(s.from), Until: unixTime(s.until)}
}

func unixTime(ns int64) time.Time { return time.Unix(0, ns).UTC() }

func appendStream(dst []byte, s *stream) []byte {
	dst = append(dst, s.id, s.codec)
	dst = binary.AppendUvarint(dst, uint64(s.offset))
	dst = binary.AppendUvarint(dst, uint64(s.size))
	dst = binary.AppendUvarint(dst, uint64(s.raw))
	return binary.LittleEndian.AppendUint32(dst, s.crc)
}

func (c *cursor) stream() (s stream) {
	s.id, s.codec = c.byte(), c.byte()
	s.offset = int64(c.uvarint() & (1<<62 - 1))
	s.size, s.raw = uint32(c.bounded(maxStreamBytes)), uint32(c.bounded(maxStreamBytes))
	s.crc = c.u32()
	return s
}

func appendBlockInfo(dst []byte, b *blockInfo) []byte {
	dst = appendString(dst, b.id)
	dst = appendVarint(dst, b.created)
	dst = binary.AppendUvarint(dst, uint64(len(b.epochs)))
	for _, e := range b.epochs {
		dst = binary.AppendUvarint(dst, e)
	}
	dst = binary.AppendUvarint(dst, uint64(b.keys))
	dst = appendStream(dst, &b.keyList)
	dst = appendStream(dst, &b.keyInfo)
	dst = binary.AppendUvarint(dst, uint64(len(b.parts)))
	for i := range b.parts {
		p := &b.parts[i]
		dst = appendString(dst, p.service)
		dst = appendStream(dst, &p.directory)
		dst = binary.AppendUvarint(dst, uint64(len(p.sections)))
		for _, s := range p.sections {
			dst = appendString(dst, string(s.kind))
			dst = binary.AppendUvarint(dst, uint64(len(s.sampleTypes)))
			for _, t := range s.sampleTypes {
				dst = appendString(appendString(dst, t[0]), t[1])
			}
			dst = binary.AppendUvarint(dst, uint64(s.profiles))
			dst = appendVarint(dst, s.from-b.created)
			dst = appendVarint(dst, s.until-s.from)
		}
	}
	return dst
}

var errBlockInfo = errors.New("listing is damaged")

func readBlockInfo(raw []byte) (*blockInfo, error) {
	c := cursor{b: raw}
	b := &blockInfo{id: c.string(), created: c.varint()}
	b.epochs = make([]uint64, c.count())
	for i := range b.epochs {
		b.epochs[i] = c.uvarint()
	}
	b.keys = c.bounded(maxStreamBytes)
	b.keyList, b.keyInfo = c.stream(), c.stream()
	b.parts = make([]partInfo, c.count())
	for i := range b.parts {
		p := &b.parts[i]
		p.service, p.directory = c.string(), c.stream()
		p.sections = make([]sectionInfo, c.count())
		for j := range p.sections {
			s := &p.sections[j]
			s.kind = inquest.Kind(c.string())
			s.sampleTypes = make([][2]string, c.count())
			for k := range s.sampleTypes {
				s.sampleTypes[k] = [2]string{c.string(), c.string()}
			}
			s.profiles = c.bounded(1 << 40)
			s.from = b.created + c.varint()
			s.until = s.from + c.varint()
		}
		if c.bad {
			break
		}
	}
	if c.bad || len(c.b) > 0 {
		return nil, errBlockInfo
	}
	b.span()
	return b, nil
}

// span computes from and to.
func (b *blockInfo) span() {
	first := true
	for i := range b.parts {
		for _, s := range b.parts[i].sections {
			if first {
				b.from, b.to, first = s.from, s.until, false
			}
			b.from, b.to = min(b.from, s.from), max(b.to, s.until)
		}
	}
}

// partDirectory says where the pieces of a part are.
type partDirectory struct {
	streams  []stream   // of the dictionary
	sections [][]*group // of each section
}

func appendPartDirectory(dst []byte, d *partDirectory) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(d.streams)))
	for i := range d.streams {
		dst = appendStream(dst, &d.streams[i])
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.sections)))
	for _, groups := range d.sections {
		dst = binary.AppendUvarint(dst, uint64(len(groups)))
		for _, g := range groups {
			dst = binary.AppendUvarint(dst, uint64(g.rows))
			dst = binary.AppendUvarint(dst, uint64(g.samples))
			dst = appendVarint(dst, g.from)
			dst = appendVarint(dst, g.until-g.from)
			dst = binary.AppendUvarint(dst, uint64(len(g.streams)))
			for i := range g.streams {
				dst = appendStream(dst, &g.streams[i])
			}
		}
	}
	return dst
}

var errDirectory = errors.New("directory is damaged")

func readPartDirectory(raw []byte) (*partDirectory, error) {
	c := cursor{b: raw}
	d := &partDirectory{streams: c.streams()}
	d.sections = make([][]*group, c.count())
	for i := range d.sections {
		d.sections[i] = make([]*group, c.count())
		for j := range d.sections[i] {
			g := &group{rows: c.bounded(maxStreamBytes), samples: int64(c.bounded(1 << 40))}
			g.from = c.varint()
			g.until = g.from + c.varint()
			g.streams = c.streams()
			d.sections[i][j] = g
		}
		if c.bad {
			break
		}
	}
	if c.bad || len(c.b) > 0 {
		return nil, errDirectory
	}
	return d, nil
}

func (c *cursor) streams() []stream {
	s := make([]stream, c.count())
	for i := range s {
		s[i] = c.stream()
	}
	return s
}

func (d *partDirectory) stream(id uint8) *stream {
	for i := range d.streams {
		if d.streams[i].id == id {
			return &d.streams[i]
		}
	}
	return nil
}
