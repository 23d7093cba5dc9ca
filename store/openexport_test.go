package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/goinquest/inquest"
)

// FillSparse makes a store of blocks in dir as its catalog and its files show
// it: each has a part of one service, size bytes most of which are a hole, and
// keys keys. They were made one after the other in the given time, which ends
// now.
func FillSparse(tb testing.TB, dir string, blocks int, size int64, keys int, over time.Duration) {
	tb.Helper()
	s, err := Open(context.Background(), Options{Dir: dir, Idle: true})
	if err != nil {
		tb.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	var infos []*blockInfo
	for i := range blocks {
		at := now.Add(-over + over/time.Duration(blocks)*time.Duration(i))
		id, err := newBlockID(at)
		if err != nil {
			tb.Fatal(err)
		}
		info, err := sparseBlock(s, id, at, fmt.Sprint("svc-", i%200), size, keys, rnd)
		if err != nil {
			tb.Fatal(err)
		}
		infos = append(infos, info)
	}
	if err := s.catalog.replace(infos, nil, nil); err != nil {
		tb.Fatal(err)
	}
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

func sparseBlock(s *Store, id string, at time.Time, service string, size int64, keys int, rnd *rand.Rand) (*blockInfo, error) {
	f, err := os.Create(s.blobs.path(id))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := newBlockWriter(f, s.pk, id, at.UnixNano(), levelMerged)
	if err != nil {
		return nil, err
	}
	if b.offset, err = f.Seek(size, 1); err != nil {
		return nil, err
	}
	from := at.Add(-time.Hour).UnixNano()
	info := partInfo{service: service, sections: []sectionInfo{{
		kind: inquest.KindCPU, sampleTypes: [][2]string{{"samples", "count"}, {"cpu", "nanoseconds"}}, profiles: keys, from: from, until: at.UnixNano(),
	}}}
	for i := range keys {
		k := storedKey{hash: rnd.Uint64(), row: uint32(i)}
		for j := range k.key {
			k.key[j] = byte(rnd.Uint32())
		}
		b.key = append(b.key, k)
	}
	if err := b.endPart(info, &partDirectory{sections: [][]*group{nil}}); err != nil {
		return nil, err
	}
	out, err := b.finish()
	if out != nil {
		out.rolled = true
	}
	return out, err
}
