package store

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// keyIndex knows every key that was accepted within Options.KeyAge. Keys of
// open epochs are in a map. Of those in blocks it knows which block may have
// them, and they are looked up there when one is met again: the keys of senders
// that number them are runs of successive numbers, which is next to nothing,
// the others are in tables of 3.3 bytes a key.
//
// Beyond Options.KeyBytes the oldest tables go: then a profile without a number
// of its sender's that is sent again after so long is stored twice.
type keyIndex struct {
	mu     sync.Mutex
	live   map[inquest.Key]liveKey
	gens   []*keyGeneration // by time
	span   time.Duration    // of one generation
	max    int64            // bytes of gens
	seeds  *seeds
	forgot func(keys int, written time.Time) // told when a table goes; mu is held
}

type liveKey struct {
	hash    uint64
	start   int64
	samples uint32
	wait    chan struct{} // closed when the commit ended; nil once it is durable
}

// keyGeneration is the keys of the blocks written in some time.
type keyGeneration struct {
	from, until time.Time  // when its first and last block were written
	blocks      [][]*block // by number; several where one was divided when it was merged
	runs        keyRuns    // of senders that number their keys
	table       keyTable   // of the others
}

func newKeyIndex(age time.Duration, max int64, forgot func(keys int, written time.Time)) *keyIndex {
	return &keyIndex{live: map[inquest.Key]liveKey{}, span: age / 8, max: max, seeds: newSeeds(), forgot: forgot}
}

// reserve claims a key for a writer. If it is taken, the entry is returned;
// candidates are blocks that seem to have it (and then nothing is claimed).
func (x *keyIndex) reserve(key inquest.Key, hash uint64, start int64, samples uint32) (taken *liveKey, candidates []*block) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.live[key]; ok {
		return &e, nil
	}
	if candidates = x.candidates(key); len(candidates) > 0 {
		return nil, candidates
	}
	x.live[key] = liveKey{hash, start, samples, make(chan struct{})}
	return nil, nil
}

// lookup is reserve without claiming.
func (x *keyIndex) lookup(key inquest.Key) (taken *liveKey, candidates []*block) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, ok := x.live[key]; ok {
		return &e, nil
	}
	return nil, x.candidates(key)
}

func (x *keyIndex) candidates(key inquest.Key) (out []*block) {
	who, seq := keyHalves(key)
	hash := x.seeds.mix(who, seq)
	for _, g := range x.gens {
		if g.runs.has(who, seq) {
			out = appendNew(out, g.blocks)
			continue
		}
		g.table.blocks(hash, func(from, until int) {
			out = appendNew(out, g.blocks[min(from, len(g.blocks)):min(until, len(g.blocks))])
		})
	}
	return out
}

// appendNew appends the blocks that are not there yet.
func appendNew(out []*block, lists [][]*block) []*block {
	for _, list := range lists {
		for _, b := range list {
			if !slices.Contains(out, b) {
				out = append(out, b)
			}
		}
	}
	return out
}

// replaced says that keys of some blocks are in others now, or nowhere if by is
// empty. From then on every look-up that led to one of old leads to by; it is
// called before old ones are doomed.
func (x *keyIndex) replaced(old, by []*block) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.gens {
		for i, list := range g.blocks {
			if len(list) == 1 && slices.Contains(old, list[0]) {
				g.blocks[i] = by
				continue
			}
			kept := slices.DeleteFunc(slices.Clone(list), func(b *block) bool { return slices.Contains(old, b) })
			if len(kept) < len(list) {
				g.blocks[i] = append(kept, by...)
			}
		}
	}
}

func (r *keyRuns) has(who, seq uint64) bool {
	// The last run that does not begin after the key.
	i := sort.Search(len(r.who), func(i int) bool {
		return r.who[i] > who || r.who[i] == who && r.lo[i] > seq
	}) - 1
	return i >= 0 && r.who[i] == who && seq-r.lo[i] < uint64(r.n[i])
}

// durable says that the commit of a reserved key succeeded.
func (x *keyIndex) durable(r *row) {
	x.mu.Lock()
	e := x.live[r.key]
	wait := e.wait
	e.wait = nil
	e.start, e.samples, e.hash = r.start, r.samples, r.hash
	x.live[r.key] = e
	x.mu.Unlock()
	if wait != nil {
		close(wait)
	}
}

// refused lets a reserved key go.
func (x *keyIndex) refused(r *row) { x.release(r.key) }

func (x *keyIndex) release(key inquest.Key) {
	x.mu.Lock()
	e := x.live[key]
	delete(x.live, key)
	x.mu.Unlock()
	if e.wait != nil {
		close(e.wait)
	}
}

// load takes a key found in the log.
func (x *keyIndex) load(r *indexed) {
	x.mu.Lock()
	x.live[r.key] = liveKey{hash: r.hash, start: r.start, samples: r.samples}
	x.mu.Unlock()
}

// moved says that keys of open epochs are in a block now: sorted runs.
func (x *keyIndex) moved(b *block, runs *keyRuns, gone []inquest.Key, now time.Time, age time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.add(b, runs, now)
	for _, k := range gone {
		delete(x.live, k)
	}
	x.gens = slices.DeleteFunc(x.gens, func(g *keyGeneration) bool { return now.Sub(g.until) > age })
}

// add takes the keys of a block written at the given time; x.mu is held or
// the index not shared yet.
func (x *keyIndex) add(b *block, runs *keyRuns, at time.Time) {
	g := x.generation(at)
	g.until = at
	numbered, hashes := x.divide(runs)
	g.runs.merge(numbered)
	g.table.add(hashes, len(g.blocks))
	g.blocks = append(g.blocks, []*block{b})
	x.bound()
}

// generation returns the one that takes the keys of blocks now.
func (x *keyIndex) generation(at time.Time) *keyGeneration {
	if n := len(x.gens); n > 0 {
		g := x.gens[n-1]
		if at.Sub(g.from) < x.span && !at.Before(g.from) && len(g.blocks) < 1<<blockBits && g.table.memory() < x.max/4 {
			return g
		}
		g.table.pack(len(g.blocks))
	}
	g := &keyGeneration{from: at}
	x.gens = append(x.gens, g)
	return g
}

// A sender's keys in a block are taken for numbers if there are some, and not
// too far from each other.
const (
	numberedKeys = 8
	numberedSpan = 256 // numbers per key
)

// divide tells the keys of senders that number them from others, of which it
// returns the hashes.
func (x *keyIndex) divide(runs *keyRuns) (numbered *keyRuns, hashes []uint64) {
	numbered = &keyRuns{}
	for from := 0; from < len(runs.who); {
		until, keys := from, uint64(0)
		for until < len(runs.who) && runs.who[until] == runs.who[from] {
			keys += uint64(runs.n[until])
			until++
		}
		span := runs.lo[until-1] - runs.lo[from]
		for i := from; i < until; i++ {
			if keys >= numberedKeys && span/numberedSpan <= keys {
				numbered.add(runs.who[i], runs.lo[i], runs.n[i])
				continue
			}
			for k := range uint64(runs.n[i]) {
				hashes = append(hashes, x.seeds.mix(runs.who[i], runs.lo[i]+k))
			}
		}
		from = until
	}
	return numbered, hashes
}

// bound forgets the oldest tables while there are too many.
func (x *keyIndex) bound() {
	bytes := x.bytes()
	for _, g := range x.gens {
		if bytes <= x.max {
			return
		}
		if n := g.table.len(); n > 0 {
			bytes -= g.table.memory()
			g.table = keyTable{}
			x.forgot(n, g.until)
		}
	}
}

// memory is what the keys of blocks take.
func (x *keyIndex) memory() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes()
}

func (x *keyIndex) bytes() (n int64) {
	for _, g := range x.gens {
		n += g.table.memory() + g.runs.memory() + sliceBytes(g.blocks) + 8*int64(len(g.blocks))
	}
	return n
}

func (r *keyRuns) memory() int64 { return sliceBytes(r.who) + sliceBytes(r.lo) + sliceBytes(r.n) }

// merge adds sorted runs, joining those that touch.
func (r *keyRuns) merge(more *keyRuns) {
	if len(more.who) == 0 {
		return
	}
	out := keyRuns{
		who: make([]uint64, 0, len(r.who)+len(more.who)),
		lo:  make([]uint64, 0, len(r.who)+len(more.who)),
		n:   make([]uint32, 0, len(r.who)+len(more.who)),
	}
	i, j := 0, 0
	for i < len(r.who) || j < len(more.who) {
		if j == len(more.who) || i < len(r.who) && (r.who[i] < more.who[j] || r.who[i] == more.who[j] && r.lo[i] <= more.lo[j]) {
			out.add(r.who[i], r.lo[i], r.n[i])
			i++
		} else {
			out.add(more.who[j], more.lo[j], more.n[j])
			j++
		}
	}
	if cap(out.who) > len(out.who)+len(out.who)/8 { // many were joined
		out = keyRuns{slices.Clone(out.who), slices.Clone(out.lo), slices.Clone(out.n)}
	}
	*r = out
}

// keyHalves splits a key as agents make it: who, and which in sequence.
func keyHalves(k inquest.Key) (who, seq uint64) {
	return binary.BigEndian.Uint64(k[:8]), binary.BigEndian.Uint64(k[8:])
}

// keyRuns are sorted runs of keys: the second halves lo[i], lo[i]+1, …
// lo[i]+n[i]-1 for the first half who[i].
type keyRuns struct {
	who, lo []uint64
	n       []uint32
}

// add appends a run that does not begin before the last one.
func (r *keyRuns) add(who, lo uint64, n uint32) {
	if i := len(r.who) - 1; i >= 0 && r.who[i] == who {
		if past := lo - r.lo[i]; past <= uint64(r.n[i]) && past+uint64(n) < 1<<32 {
			r.n[i] = max(r.n[i], uint32(past)+n)
			return
		}
	}
	r.who, r.lo, r.n = append(r.who, who), append(r.lo, lo), append(r.n, n)
}

// storedKey is one key as a block keeps it.
type storedKey struct {
	key                inquest.Key
	hash               uint64
	part, section, row uint32
}

var errKeys = errors.New("keys are damaged")

func sortKeys(keys []storedKey) {
	slices.SortFunc(keys, func(a, b storedKey) int { return slices.Compare(a.key[:], b.key[:]) })
}

// appendKeyList writes sorted keys: for each first half the second halves as
// differences.
func appendKeyList(dst []byte, keys []storedKey) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(keys)))
	for len(keys) > 0 {
		who, prev := keyHalves(keys[0].key)
		n := 1
		for n < len(keys) && [8]byte(keys[n].key[:8]) == [8]byte(keys[0].key[:8]) {
			n++
		}
		dst = binary.LittleEndian.AppendUint64(dst, who)
		dst = binary.LittleEndian.AppendUint64(dst, prev)
		dst = binary.AppendUvarint(dst, uint64(n))
		for _, k := range keys[1:n] {
			_, seq := keyHalves(k.key)
			dst = binary.AppendUvarint(dst, seq-prev)
			prev = seq
		}
		keys = keys[n:]
	}
	return dst
}

// readKeyList calls f for each key that appendKeyList wrote, in order.
func readKeyList(c *cursor, f func(i int, who, seq uint64)) {
	total := c.bounded(maxStreamBytes)
	for i := 0; i < total && !c.bad; {
		who, seq := c.u64(), c.u64()
		n := c.bounded(total - i)
		if n == 0 {
			c.fail()
		}
		for j := 0; j < n && !c.bad; j++ {
			if j > 0 {
				seq += c.uvarint()
			}
			if !c.bad {
				f(i, who, seq)
			}
			i++
		}
	}
}

// readKeyRuns reads a block's key list as runs.
func readKeyRuns(raw []byte) (*keyRuns, error) {
	c := cursor{b: raw}
	r := &keyRuns{}
	readKeyList(&c, func(_ int, who, seq uint64) { r.add(who, seq, 1) })
	if c.bad {
		return nil, errKeys
	}
	return r, nil
}

func appendKeyInfo(dst []byte, keys []storedKey) []byte {
	for i := range keys {
		dst = binary.LittleEndian.AppendUint64(dst, keys[i].hash)
	}
	for i := range keys {
		dst = binary.AppendUvarint(dst, uint64(keys[i].part))
	}
	for i := range keys {
		dst = binary.AppendUvarint(dst, uint64(keys[i].section))
	}
	for i := range keys {
		dst = binary.AppendUvarint(dst, uint64(keys[i].row))
	}
	return dst
}

// readKeyInfo returns what a block of n keys says of the one at position i.
func readKeyInfo(raw []byte, n, i int) (k storedKey, err error) {
	if n > len(raw)/8 || i >= n {
		return k, errKeys
	}
	c := cursor{b: raw}
	k.hash = binary.LittleEndian.Uint64(c.bytes(8 * n)[8*i:])
	for _, f := range [...]*uint32{&k.part, &k.section, &k.row} {
		for j := range n {
			v := uint32(c.bounded(1 << 30))
			if j == i {
				*f = v
			}
		}
	}
	if c.bad {
		return k, errKeys
	}
	return k, nil
}

// readAllKeys reads the keys of a block and what it says of each.
func readAllKeys(list, info []byte) ([]storedKey, error) {
	var keys []storedKey
	c := cursor{b: list}
	readKeyList(&c, func(_ int, who, seq uint64) {
		var k storedKey
		binary.BigEndian.PutUint64(k.key[:8], who)
		binary.BigEndian.PutUint64(k.key[8:], seq)
		keys = append(keys, k)
	})
	if c.bad || len(keys) > len(info)/8 {
		return nil, errKeys
	}
	c = cursor{b: info}
	for i := range keys {
		keys[i].hash = c.u64()
	}
	for _, f := range [...]func(k *storedKey) *uint32{
		func(k *storedKey) *uint32 { return &k.part },
		func(k *storedKey) *uint32 { return &k.section },
		func(k *storedKey) *uint32 { return &k.row },
	} {
		for i := range keys {
			*f(&keys[i]) = uint32(c.bounded(1 << 30))
		}
	}
	if c.bad {
		return nil, errKeys
	}
	return keys, nil
}
