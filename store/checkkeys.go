package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// checkedKeys is what is known of a block's keys.
type checkedKeys struct {
	err   error       // what is wrong with them
	good  []storedKey // all of them, if the block's parts are whole
	loses string      // what is missing in good; "" if nothing is
}

// keys compares the block's keys with its rows, both ways. Rows of damaged
// parts count for nothing.
func (w *blockWalk) keys() *checkedKeys {
	w.r.use(&w.list.keyList)
	w.r.use(&w.list.keyInfo)
	sortKeys(w.keyed)
	out := &checkedKeys{good: w.keyed}
	list, err := w.r.load(&w.list.keyList)
	if err == nil {
		_, err = readKeyRuns(list)
	}
	if err != nil {
		w.out.noKeys = true
		out.err = fmt.Errorf("list of keys at byte %d: %w", w.list.keyList.offset, err)
		list = nil
	}
	info, err := w.r.load(&w.list.keyInfo)
	var at []storedKey
	if err == nil {
		at, err = readKeyPlaces(info, w.list.keys)
	}
	if err != nil {
		out.err = errors.Join(out.err, fmt.Errorf("places of keys at byte %d: %w", w.list.keyInfo.offset, err))
		out.loses = "the hashes of bodies are lost: one of them that is sent again is refused as a conflict"
		return out
	}
	if err := w.compareKeys(list, at); err != nil && out.err == nil {
		out.err = err
	}
	return out
}

// readKeyPlaces reads what a block says of its n keys, in their order.
func readKeyPlaces(raw []byte, n int) ([]storedKey, error) {
	if n > len(raw)/8 {
		return nil, errKeys
	}
	keys := make([]storedKey, n)
	c := cursor{b: raw}
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
	if c.bad || len(c.b) > 0 {
		return nil, errKeys
	}
	return keys, nil
}

// compareKeys compares list, nil if it cannot be read, and places of keys with
// the rows, and gives the rows' keys their hashes.
func (w *blockWalk) compareKeys(list []byte, at []storedKey) error {
	if list != nil {
		c, i := cursor{b: list}, 0
		readKeyList(&c, func(_ int, who, seq uint64) {
			if i < len(at) {
				binary.BigEndian.PutUint64(at[i].key[:8], who)
				binary.BigEndian.PutUint64(at[i].key[8:], seq)
			}
			i++
		})
		if i != len(at) {
			return fmt.Errorf("keys: the list has %d, there are places of %d", i, len(at))
		}
	}
	at = slices.DeleteFunc(at, func(k storedKey) bool { return w.out.parts[int(k.part)] })
	if len(at) != len(w.keyed) {
		return fmt.Errorf("keys: there are %d of %d rows", len(at), len(w.keyed))
	}
	for i := range at {
		k := &w.keyed[i]
		if k.part != at[i].part || k.section != at[i].section || k.row != at[i].row || list != nil && k.key != at[i].key {
			return fmt.Errorf("keys: number %d is not that of row %d of section %d of part %d", i, at[i].row, at[i].section, at[i].part)
		}
		k.hash = at[i].hash
	}
	return nil
}

// mend reports damage of what surrounds a block's parts: header, footer, keys.
// If all parts are whole, Repair writes the file anew.
func (r *blockReader) mend(list *blockListing, at stream, broken error, keys *checkedKeys, out *checkedBlock) {
	if broken == nil && keys.err == nil {
		return
	}
	p := CheckProblem{Where: blockFile(r.id), What: errors.Join(broken, keys.err).Error()}
	// Only where nothing else stands that this program does not know.
	end := list.keyInfo.offset + int64(list.keyInfo.size)
	if len(out.parts) > 0 || end != at.offset || list.keyList.offset+int64(list.keyList.size) != list.keyInfo.offset {
		if keys.err != nil {
			p.What += "; its profiles could be stored twice"
		}
		r.c.problem(p)
		return
	}
	p.Repair = "header, keys and footer are written anew"
	if keys.err != nil && keys.loses != "" {
		p.Repair += "; " + keys.loses
	}
	id, good := r.id, keys.good
	row := out.row
	n := r.c.problem(p)
	r.c.write = append(r.c.write, fix{problem: n, files: func() error { return r.c.rewrite(id, row, list, good) }})
}

// rewrite writes a block's file anew but for its parts, which are copied.
func (c *checker) rewrite(id string, row *blockInfo, list *blockListing, keys []storedKey) error {
	blob, err := c.blobs.Open(id)
	if err != nil {
		return err
	}
	defer blob.Close()
	var info *blockInfo
	err = c.blobs.Put(id, func(w io.Writer) error {
		b, err := newBlockWriter(w, c.pk, id, list.created, list.level)
		if err != nil {
			return err
		}
		n, err := io.Copy(w, io.NewSectionReader(blob, blockHeaderSize, list.keyList.offset-blockHeaderSize))
		if err != nil {
			return err
		}
		b.offset += n
		b.epochs, b.sources, b.parts, b.key = list.epochs, list.sources, list.parts, keys
		info, err = b.finish()
		return err
	})
	if err != nil {
		return err
	}
	info.rolled = row.rolled
	c.fixEntry(-1, func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketBlocks)).Put([]byte(id), appendInfo(nil, info))
	})
	return nil
}

// keysAtOnce is how many keys are held in memory while blocks are searched
// for profiles that are there twice.
const keysAtOnce = 2 << 20

// heldKey is a key and the number of the block that has it.
type heldKey struct {
	key   inquest.Key
	block int32
}

// twice looks for keys that several blocks have. It reads the lists of keys as
// many times as it takes to hold only a share of all keys at once.
func (c *checker) twice() error {
	total := 0
	var ids []string
	for _, id := range sortedKeys(c.blocks) {
		if b := c.blocks[id]; !b.lost && !b.noKeys && b.row.keys > 0 {
			total += b.row.keys
			ids = append(ids, id)
		}
	}
	if len(ids) < 2 {
		return nil
	}
	pairs := map[[2]int32]int{}
	passes := uint32(total/keysAtOnce + 1)
	for pass := range passes {
		var held []heldKey
		for i, id := range ids {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			held = c.heldKeys(held, id, int32(i), pass, passes)
		}
		slices.SortFunc(held, func(a, b heldKey) int { return slices.Compare(a.key[:], b.key[:]) })
		for i := 1; i < len(held); i++ {
			if held[i].key == held[i-1].key {
				a, b := held[i-1].block, held[i].block
				pairs[[2]int32{min(a, b), max(a, b)}]++
			}
		}
	}
	for pair, n := range pairs {
		c.sharedKeys(ids[pair[0]], ids[pair[1]], n)
	}
	return nil
}

// heldKeys adds the keys of a block that belong to a pass.
func (c *checker) heldKeys(held []heldKey, id string, number int32, pass, passes uint32) []heldKey {
	blob, err := c.blobs.Open(id)
	if err != nil {
		return held // it was there before, and is reported next time
	}
	defer blob.Close()
	r := &blockReader{c: c, id: id, blob: blob, size: c.blocks[id].row.size}
	raw, err := r.load(&c.blocks[id].keyList)
	if err != nil {
		return held
	}
	cur := cursor{b: raw}
	readKeyList(&cur, func(_ int, who, seq uint64) {
		k := heldKey{block: number}
		binary.BigEndian.PutUint64(k.key[:8], who)
		binary.BigEndian.PutUint64(k.key[8:], seq)
		if passes == 1 || crc32.ChecksumIEEE(k.key[:])%passes == pass {
			held = append(held, k)
		}
	})
	return held
}

// sharedKeys reports profiles that two blocks have.
func (c *checker) sharedKeys(a, b string, n int) {
	if a != b && (slices.Contains(c.blocks[a].sources, b) || slices.Contains(c.blocks[b].sources, a)) {
		return // see sources
	}
	c.problem(CheckProblem{
		Where: blockFile(a), What: fmt.Sprintf("%d of its profiles are in %s too: answers count them twice", n, blockFile(b)),
	})
}

// sources checks what blocks say of the blocks they were made of.
func (c *checker) sources() {
	rolled := map[string]bool{}
	for _, id := range sortedKeys(c.blocks) {
		b := c.blocks[id]
		for _, source := range b.sources {
			if b.row.level == levelRollup {
				rolled[source] = true
			} else if c.blocks[source] != nil {
				c.superseded(id, source)
			}
		}
	}
	for _, id := range sortedKeys(c.blocks) {
		b := c.blocks[id]
		if b.row.level == levelRollup || b.row.rolled || !isRolled(id, b.sources, rolled) {
			continue
		}
		n := c.problem(CheckProblem{
			Where: rowName(id), What: "its profiles are in a rollup, but the row does not say so: answers count them twice", Repair: "the row says so then",
		})
		c.fixEntry(n, func(tx *bbolt.Tx) error { return setRolled(tx, id) })
	}
}

func setRolled(tx *bbolt.Tx, id string) error {
	blocks := tx.Bucket([]byte(bucketBlocks))
	row, err := readInfo(id, blocks.Get([]byte(id)))
	if err != nil {
		return err
	}
	row.rolled = true
	return blocks.Put([]byte(id), appendInfo(nil, row))
}

// superseded reports a block that is still there beside the one it became part
// of. One of them goes: the old one, unless only that is whole.
func (c *checker) superseded(id, source string) {
	gone := source
	if !c.blocks[id].whole() && c.blocks[source].whole() && len(c.blocks[id].sources) == 1 {
		gone = id
	}
	n := c.problem(CheckProblem{
		Where: blockFile(source), What: fmt.Sprintf("it is still listed beside %s, which was made of it: answers count its profiles twice", blockFile(id)),
		Repair: gone + " goes",
	})
	c.fixEntry(n, func(tx *bbolt.Tx) error {
		marks := tx.Bucket([]byte(bucketDamaged))
		for i := wholeBlock; i < c.blocks[gone].n; i++ {
			if err := marks.Delete([]byte(damageKey(&block{info: c.blocks[gone].row}, i))); err != nil {
				return err
			}
		}
		return tx.Bucket([]byte(bucketBlocks)).Delete([]byte(gone))
	})
	c.remove = append(c.remove, fix{problem: -1, files: func() error { return c.blobs.Delete(gone) }})
}
