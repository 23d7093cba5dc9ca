package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
	"github.com/goinquest/inquest/internal/testprog"
)

// What a program with odd memory keeps, each byte turned around so that these
// are not found instead.
const (
	notForCores = "this is not to be dumped"
	sharedWords = "this is shared by a family"
)

func turned(dst []byte, s string) {
	for i := range s {
		dst[i] = ^s[i]
	}
}

// odd has memory that is not to be dumped, memory that cannot be read, and
// shared memory without a name.
func odd(dir string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	page := os.Getpagesize()
	hidden, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	fail(err)
	turned(hidden, notForCores)
	fail(unix.Madvise(hidden, unix.MADV_DONTDUMP))
	shared, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	fail(err)
	turned(shared[512<<20:], sharedWords)
	f, err := os.Create(filepath.Join(dir, "short"))
	fail(err)
	fail(f.Truncate(int64(3 * page)))
	cut, err := unix.Mmap(int(f.Fd()), 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	fail(err)
	cut[0] = 1
	fail(f.Truncate(int64(page)))
	l, err := net.Listen("tcp", "127.0.0.1:0") // waiting for it is no deadlock
	fail(err)
	fmt.Printf("ready %d %s 1\n", os.Getpid(), l.Addr())
	_, _ = l.Accept()
}

// TestOddMemory has memory that is honoured, missed and blanked.
func TestOddMemory(t *testing.T) {
	o := start(t, os.Args[0], "odd", t.TempDir())
	s := newSink(t)
	c := capturer(t, capture.Options{Sink: s})
	for _, tier := range []inquest.Tier{inquest.TierMini, inquest.TierFull} {
		e, err := c.Snapshot(context.Background(), o.pid, tier)
		if err != nil {
			t.Fatal(err)
		}
		_, cores := s.take()
		text, err := os.ReadFile(cores[0].sparse(t))
		if err != nil {
			t.Fatal(err)
		}
		hidden, shared := make([]byte, len(notForCores)), make([]byte, len(sharedWords))
		turned(hidden, notForCores)
		turned(shared, sharedWords)
		if bytes.Contains(text, hidden) {
			t.Errorf("%s: has what is not to be dumped", tier)
		}
		if bytes.Contains(text, []byte("hunter2-not-to-be-seen")) {
			t.Errorf("%s: has a password", tier)
		}
		if !slices.ContainsFunc(e.Core.Blanked, func(s string) bool { return strings.Contains(s, "DB_PASSWORD") }) {
			t.Errorf("%s: blanked %q", tier, e.Core.Blanked)
		}
		if tier == inquest.TierMini {
			continue
		}
		if !bytes.Contains(text, shared) {
			t.Error("has no shared memory")
		}
		if want := "pages that could not be read: " + fmt.Sprintf("%.1f KiB", float64(2*os.Getpagesize())/1024); !slices.Contains(e.Core.Missing, want) {
			t.Errorf("missing %q, want %q", e.Core.Missing, want)
		}
		p := cores[0].process(t)
		for _, m := range p.Mappings {
			if strings.HasSuffix(m.Path, "/short") {
				if _, err := p.Memory.ReadAt(make([]byte, 8), int64(m.End()-8)); !errors.Is(err, inquest.ErrNotFound) {
					t.Errorf("reading what could not be read: %v", err)
				}
			}
		}
	}
}

// TestPagesBothWays has old and new kernels tell the same pages.
func TestPagesBothWays(t *testing.T) {
	o := start(t, testprog.Build{}.Path(t), "-http", "127.0.0.1:0", "-heap", "16", "-goroutines", "100")
	if err := unix.Kill(o.pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return o.state() == 'T' })
	ioctl, file, onlyIoctl, onlyFile, err := capture.PagesBothWays(o.pid)
	if err != nil {
		t.Fatal(err)
	}
	// The file cannot tell the page of zeros that all processes share.
	if ioctl < 16<<20 || onlyIoctl != 0 || file != ioctl+onlyFile || onlyFile > ioctl/4 {
		t.Errorf("%d bytes by ioctl, %d by file; %d and %d only there", ioctl, file, onlyIoctl, onlyFile)
	}
}
