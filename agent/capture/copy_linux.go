package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
)

// piece is a range of memory in a chunk; one without data could not be read.
type piece struct {
	addr uint64
	size uint64
	data []byte
}

// load is a chunk on its way from the process to the image.
type load struct {
	chunk  []byte
	pieces []piece
}

// copied is what became of a copy.
type copied struct {
	bytes      uint64 // that were read
	unreadable uint64 // bytes
	late       bool   // the time was up, or the process gone, before all was read
	ended      bool   // the process ended meanwhile
	running    uint64 // bytes that were read while the process went on
}

// copier brings the memory of a plan into an image. Reading and packing go on
// beside each other; reading may be ahead by all of the buffers, so that a
// process can go before what was read of it is packed.
type copier struct {
	buffers *buffers
	from    io.ReaderAt
	page    uint64
	to      *coredump.Writer
	blank   func(p []byte, addr uint64)
	until   time.Time // when reading ends; zero: never
	done    func()
	goOn    time.Time // when the process goes on while reading does too; zero: not before the end
}

// copy reads the extents in order. done is called once, as soon as the last of
// them is read, or nothing more will be, or the process is to go on; it lets
// the process go.
func (c *copier) copy(ctx context.Context, extents []coredump.Extent, done func()) (copied, error) {
	loads := make(chan load, c.buffers.count)
	failed := make(chan struct{}) // closed when packing has failed
	var out copied
	var readErr error
	go func() {
		defer close(loads)
		c.done = sync.OnceFunc(done)
		defer c.done()
		readErr = guard(func() error { return c.read(ctx, extents, loads, failed, &out) })
	}()
	err := c.pack(loads, failed)
	return out, errors.Join(err, readErr)
}

// read fills chunks from the process and passes them on.
func (c *copier) read(ctx context.Context, extents []coredump.Extent, loads chan<- load, failed <-chan struct{}, out *copied) error {
	l := load{chunk: c.buffers.get()}
	room := l.chunk
	flush := func() {
		loads <- l // has room for all chunks there are
		l = load{chunk: c.buffers.get()}
		room = l.chunk
	}
	defer func() { loads <- l }()
	for _, e := range extents {
		for e.Size > 0 {
			if stop, err := c.stop(ctx, failed); stop {
				out.late = true
				return err
			}
			if uint64(len(room)) < min(e.Size, c.page) || len(l.pieces) >= maxPieces {
				flush()
			}
			running := !c.goOn.IsZero() && time.Now().After(c.goOn)
			if running {
				c.done()
			}
			n, ended := c.fill(&l, &room, e, out)
			if running {
				out.running += n
			}
			if ended {
				out.late, out.ended = true, true
				return nil
			}
			e.Addr += n
			e.Size -= n
		}
	}
	return nil
}

// maxPieces bounds the list of pieces in one chunk.
const maxPieces = 4096

// stop says whether reading is to end before it is done.
func (c *copier) stop(ctx context.Context, failed <-chan struct{}) (bool, error) {
	select {
	case <-failed:
		return true, nil // packing says why
	default:
	}
	if err := ctx.Err(); err != nil {
		return true, fmt.Errorf("copy memory: %w", err)
	}
	return !c.until.IsZero() && time.Now().After(c.until), nil
}

// fill reads the beginning of an extent into the room of a load and returns
// how much of the extent is dealt with. A page that cannot be read becomes a
// piece without data.
func (c *copier) fill(l *load, room *[]byte, e coredump.Extent, out *copied) (n uint64, ended bool) {
	buf := (*room)[:min(uint64(len(*room)), e.Size)]
	k, err := c.from.ReadAt(buf, int64(e.Addr))
	if k > 0 {
		l.pieces = append(l.pieces, piece{e.Addr, uint64(k), buf[:k]})
		*room = (*room)[k:]
		out.bytes += uint64(k)
		return uint64(k), false
	}
	if errors.Is(err, errEnded) {
		return 0, true
	}
	n = min(c.page-e.Addr%c.page, e.Size)
	if last := len(l.pieces) - 1; last >= 0 && l.pieces[last].data == nil && l.pieces[last].addr+l.pieces[last].size == e.Addr {
		l.pieces[last].size += n
	} else {
		l.pieces = append(l.pieces, piece{addr: e.Addr, size: n})
	}
	out.unreadable += n
	return n, false
}

// pack blanks and writes what was read, and gives the chunks back. When it
// fails it goes on taking loads, so that reading ends.
func (c *copier) pack(loads <-chan load, failed chan<- struct{}) error {
	var err error
	for l := range loads {
		if err == nil {
			if err = guard(func() error { return c.write(l.pieces) }); err != nil {
				close(failed)
			}
		}
		c.buffers.put(l.chunk)
	}
	return err
}

func (c *copier) write(pieces []piece) (err error) {
	for _, p := range pieces {
		if p.data == nil {
			err = c.to.Skip(p.size)
		} else {
			if c.blank != nil {
				c.blank(p.data, p.addr)
			}
			_, err = c.to.Write(p.data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// say adds to a core what the copy missed.
func (o *copied) say(core *inquest.Core, total uint64, why string) {
	if o.unreadable > 0 {
		core.Missing = append(core.Missing, "pages that could not be read: "+size(o.unreadable))
	}
	if o.running > 0 {
		core.Missing = append(core.Missing, "one moment of all memory: the process went on while this was read of its heap: "+size(o.running))
	}
	if rest := total - o.bytes - o.unreadable; o.ended && rest > 0 {
		core.Missing = append(core.Missing, "the process ended before it was copied: "+size(rest))
	} else if o.late && rest > 0 {
		core.Missing = append(core.Missing, why+": "+size(rest))
	}
}
