package store

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// blockInfo is what is in memory and in the catalog of a block: enough to know
// whether a query needs it. It does not grow with what is in the block.
type blockInfo struct {
	id          string
	size        int64  // of the file
	created     int64  // unix ns
	level       uint8  // levelHead …
	rolled      bool   // its profiles are in rollup blocks too; not in the block's own copy
	profiles    int64  // rows of level levelHead and levelMerged
	from, to    int64  // first and last start of all sections, unix ns; of rollups, until the end of the last step
	first, last string // services in it, in order; "" is that of tables of functions
	keys        int
	keyList     stream
	keyInfo     stream
	listing     stream // see blockListing
}

// Levels of blocks: where their profiles come from.
const (
	levelHead   = 0 // heads whose epoch ended
	levelMerged = 1 // blocks of level 0
	levelRollup = 2 // rollups of profiles in blocks of level 0, or of other rollups
)

// blockListing is what stands at the end of a block: what the catalog has of
// it, so that a lost catalog can be made again, and where its parts are.
type blockListing struct {
	id      string
	created int64
	level   uint8
	epochs  []uint64 // that the block closed
	sources []string // blocks it was made of and replaces
	beside  []string // of a rollup: blocks with profiles that are in it too
	keys    int
	keyList stream
	keyInfo stream
	parts   []partInfo // by service
}

// partInfo is one part: one service, or, in a rollup block, several: then
// service is "" and the rows name theirs.
type partInfo struct {
	service   string
	directory stream
	sections  []sectionInfo
}

type sectionInfo struct {
	kind        inquest.Kind
	resolution  Resolution
	digest      bool        // rows are function digests of processes, see digest.go
	fleet       bool        // rows are tables of functions of all services together, see fleetParts
	sampleTypes [][2]string // type and unit
	profiles    int         // rows
	from, until int64       // first and last start, unix ns; of rollups, of a step
}

// cumPrefix begins the sample type of a column of a table, which has what the
// calls of functions cost. It follows the column that has what functions cost
// themselves.
const cumPrefix = "cum:"

// heldPrefix begins the sample type of a column of a rollup that holds
// value × hold of the column named after it.
const heldPrefix = "held:"

// HeldPerSecond is what a held column of a rollup counts a value of 1 with
// that is held for a second: counts are small and have milliseconds.
func HeldPerSecond(t inquest.Type) float64 {
	if t.Unit == "count" {
		return 1e3
	}
	return 1
}

func (s *sectionInfo) section() Section {
	out := Section{Kind: s.kind, Resolution: s.resolution, Fleet: s.fleet, Profiles: s.profiles, From: unixTime(s.from), Until: unixTime(s.until)}
	if s.digest {
		for i, t := range s.sampleTypes {
			typ, held := inquest.TypeOf(s.kind, t[0], t[1]), -1
			if typ.Temporality == inquest.Instant {
				held = i
			}
			out.Types, out.Column, out.Held = append(out.Types, typ), append(out.Column, i), append(out.Held, held)
		}
		return out
	}
	for i, t := range s.sampleTypes {
		if s.resolution != Raw && strings.HasPrefix(t[0], heldPrefix) {
			if n := len(out.Held); n > 0 {
				out.Held[n-1] = i // it follows the column it is of
			}
			continue
		}
		if s.fleet && i%2 == 1 {
			continue // the cum of the one before
		}
		out.Types = append(out.Types, inquest.TypeOf(s.kind, t[0], t[1]))
		out.Column, out.Held = append(out.Column, i), append(out.Held, -1)
	}
	return out
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

func appendListing(dst []byte, b *blockListing) []byte {
	dst = appendString(dst, b.id)
	dst = appendVarint(dst, b.created)
	dst = append(dst, b.level)
	dst = binary.AppendUvarint(dst, uint64(len(b.epochs)))
	for _, e := range b.epochs {
		dst = binary.AppendUvarint(dst, e)
	}
	for _, list := range [...][]string{b.sources, b.beside} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, s := range list {
			dst = appendString(dst, s)
		}
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
		for j := range p.sections {
			dst = appendSection(dst, &p.sections[j], b.created)
		}
	}
	return dst
}

// These are set in the byte that has a section's resolution.
const (
	sectionDigest = 1 << 7
	sectionFleet  = 1 << 6
)

func appendSection(dst []byte, s *sectionInfo, created int64) []byte {
	form := byte(s.resolution)
	if s.digest {
		form |= sectionDigest
	}
	if s.fleet {
		form |= sectionFleet
	}
	dst = appendString(append(dst, form), string(s.kind))
	dst = binary.AppendUvarint(dst, uint64(len(s.sampleTypes)))
	for _, t := range s.sampleTypes {
		dst = appendString(appendString(dst, t[0]), t[1])
	}
	dst = binary.AppendUvarint(dst, uint64(s.profiles))
	dst = appendVarint(dst, s.from-created)
	return appendVarint(dst, s.until-s.from)
}

var errListing = errors.New("listing is damaged")

// readListing reads what appendListing wrote, or what version 1 had there.
func readListing(raw []byte, version uint32) (*blockListing, error) {
	c := cursor{b: raw}
	b := &blockListing{id: c.string(), created: c.varint()}
	if version >= 2 {
		if b.level = c.byte(); b.level > levelRollup {
			c.fail()
		}
	}
	b.epochs = make([]uint64, c.count())
	for i := range b.epochs {
		b.epochs[i] = c.uvarint()
	}
	if version >= 2 {
		for _, list := range [...]*[]string{&b.sources, &b.beside} {
			*list = make([]string, c.count())
			for i := range *list {
				(*list)[i] = c.string()
			}
		}
	}
	b.keys = c.bounded(maxStreamBytes)
	b.keyList, b.keyInfo = c.stream(), c.stream()
	b.parts = make([]partInfo, c.count())
	for i := range b.parts {
		p := &b.parts[i]
		p.service, p.directory = c.string(), c.stream()
		p.sections = make([]sectionInfo, c.count())
		for j := range p.sections {
			p.sections[j] = c.section(b.created, version)
		}
		if c.bad {
			break
		}
	}
	if c.bad || len(c.b) > 0 || !slices.IsSortedFunc(b.parts, comparePart) {
		return nil, errListing
	}
	return b, nil
}

func comparePart(a, b partInfo) int { return strings.Compare(a.service, b.service) }

func (c *cursor) section(created int64, version uint32) (s sectionInfo) {
	if version >= 2 {
		form := c.byte()
		s.resolution = Resolution(form &^ (sectionDigest | sectionFleet))
		s.digest, s.fleet = form&sectionDigest != 0, form&sectionFleet != 0
		if s.resolution > Day {
			c.fail()
		}
	}
	s.kind = inquest.Kind(c.string())
	s.sampleTypes = make([][2]string, c.count())
	for k := range s.sampleTypes {
		s.sampleTypes[k] = [2]string{c.string(), c.string()}
	}
	s.profiles = c.bounded(1 << 40)
	s.from = created + c.varint()
	s.until = s.from + c.varint()
	return s
}

// info is what is kept of the block of size bytes whose listing is l, stored
// at the given place.
func (l *blockListing) info(size int64, at stream) *blockInfo {
	b := &blockInfo{
		id: l.id, size: size, created: l.created, level: l.level,
		keys: l.keys, keyList: l.keyList, keyInfo: l.keyInfo, listing: at,
	}
	if n := len(l.parts); n > 0 {
		b.first, b.last = l.parts[0].service, l.parts[n-1].service
	}
	some := false
	for i := range l.parts {
		for _, s := range l.parts[i].sections {
			until := s.until + max(0, int64(s.resolution.Duration())-1)
			if !some {
				b.from, b.to, some = s.from, until, true
			}
			b.from, b.to = min(b.from, s.from), max(b.to, until)
			if s.resolution == Raw {
				b.profiles += int64(s.profiles)
			}
		}
	}
	return b
}

// appendInfo writes a block's row of the catalog, sealed.
func appendInfo(dst []byte, b *blockInfo) []byte {
	from := len(dst)
	flags := b.level << 1
	if b.rolled {
		flags |= 1
	}
	dst = append(dst, flags)
	dst = binary.AppendUvarint(dst, uint64(b.size))
	dst = appendVarint(dst, b.created)
	dst = binary.AppendUvarint(dst, uint64(b.profiles))
	dst = appendVarint(dst, b.from-b.created)
	dst = appendVarint(dst, b.to-b.from)
	dst = appendString(appendString(dst, b.first), b.last)
	dst = binary.AppendUvarint(dst, uint64(b.keys))
	dst = appendStream(appendStream(dst, &b.keyList), &b.keyInfo)
	dst = appendStream(dst, &b.listing)
	return binary.LittleEndian.AppendUint32(dst, sealOf(bucketBlocks, []byte(b.id), dst[from:]))
}

// readInfo reads a row of the catalog; v is not kept.
func readInfo(id string, v []byte) (*blockInfo, error) {
	v, err := unseal(bucketBlocks, []byte(id), v)
	if err != nil {
		return nil, err
	}
	c := cursor{b: v}
	flags := c.byte()
	b := &blockInfo{id: id, level: flags >> 1, rolled: flags&1 != 0}
	b.size = int64(c.uvarint() & (1<<62 - 1))
	b.created = c.varint()
	b.profiles = int64(c.bounded(1 << 50))
	b.from = b.created + c.varint()
	b.to = b.from + c.varint()
	b.first, b.last = c.string(), c.string()
	b.keys = c.bounded(maxStreamBytes)
	b.keyList, b.keyInfo, b.listing = c.stream(), c.stream(), c.stream()
	if c.bad || len(c.b) > 0 || b.level > levelRollup {
		return nil, errors.New("row is damaged")
	}
	return b, nil
}

// mayHave says whether the block may have a part of a service.
func (b *blockInfo) mayHave(service string) bool { return b.first <= service && service <= b.last }

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
	for _, groups := range d.sections {
		for _, g := range groups {
			dst = appendSets(dst, g.sets)
		}
	}
	return dst
}

// appendSets writes ascending ids.
func appendSets(dst []byte, sets []uint32) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(sets)))
	prev := uint32(0)
	for _, s := range sets {
		dst = binary.AppendUvarint(dst, uint64(s-prev))
		prev = s
	}
	return dst
}

// sets reads what appendSets wrote.
func (c *cursor) sets() []uint32 {
	out := make([]uint32, c.count())
	prev := uint64(0)
	for i := range out {
		prev += uint64(c.bounded(math.MaxUint32))
		if prev > math.MaxUint32 {
			c.fail()
			return nil
		}
		out[i] = uint32(prev)
	}
	return out
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
	if len(c.b) > 0 { // version 1 ends here
		for _, groups := range d.sections {
			for _, g := range groups {
				g.sets = c.sets()
			}
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
