package corespool_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/corespool"
	"github.com/goinquest/inquest/internal/proc"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
		proc.Missing(t, "needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestFullDisk has crashes kept, and cores given up, on a disk that others
// have filled.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "24m")
	dir := filepath.Join(disk, "pool")
	p := open(t, corespool.Options{Dir: dir})
	newImage(t, 1, inquest.TierFull).put(t, p)
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := filler.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Begin(newImage(t, 2, inquest.TierFull).crash); err != nil && !errors.Is(err, inquest.ErrDiskFull) {
		t.Errorf("begin: %v", err)
	}
	for n := 10; n < 60; n++ {
		if err := p.Crash(crash(n)); err != nil {
			t.Fatalf("crash %d: %v", n, err)
		}
	}
	if s := p.Stats(); s.Trimmed+s.DroppedCores == 0 || s.DroppedEvents != 0 {
		t.Errorf("stats %+v", s)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, corespool.Options{Dir: dir})
	if told := events(p); len(told) < 50 {
		t.Errorf("%d crashes are told", len(told))
	}
	checkBytes(t, p, dir)
}

// TestMinFree keeps cores from taking what others need.
func TestMinFree(t *testing.T) {
	dir := smallDisk(t, "24m")
	p := open(t, corespool.Options{Dir: dir, MinFreeBytes: 8 << 20})
	for n := range 5 {
		newImage(t, n, inquest.TierFull).put(t, p)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < 8<<20 {
		t.Errorf("%d bytes are free", free)
	}
	if s := p.Stats(); s.Trimmed == 0 || s.Cores == 0 {
		t.Errorf("stats %+v", s)
	}
	if r := p.Room(); r > 16<<20 || r < 4<<20 {
		t.Errorf("room for %d bytes", r)
	}
	checkBytes(t, p, dir)
}
