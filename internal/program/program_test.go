package program_test

import (
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"testing/fstest"

	"github.com/goinquest/inquest/internal/program"
	"github.com/goinquest/inquest/internal/settings"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("disk on fire"), 1},
		{settings.Errorf("no such flag"), 2},
		{fmt.Errorf("reload: %w", settings.Errorf("no such key")), 2},
		{fmt.Errorf("1 of 2 files: %w", program.ErrRefused), 3},
	} {
		if got := program.ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	meminfo := &fstest.MapFile{Data: []byte("MemTotal:        8192000 kB\nMemFree: 1 kB\n")}
	const machine = 8192000 << 10
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for _, c := range []struct {
		name string
		fs   fstest.MapFS
		want int64
	}{
		{"nothing known", fstest.MapFS{}, 0},
		{"machine", fstest.MapFS{"proc/meminfo": meminfo}, machine / 100 * 50},
		{"no limit", fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("max\n")}, machine / 100 * 50},
		{"group", fstest.MapFS{"proc/meminfo": meminfo, "proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/b/memory.max": file("1000000000\n")}, 800000000},
		{"group above", fstest.MapFS{"proc/self/cgroup": file("0::/a/b\n"), "sys/fs/cgroup/a/memory.max": file("500000000\n"), "sys/fs/cgroup/a/b/memory.max": file("1000000000\n")}, 400000000},
		{"container", fstest.MapFS{"proc/self/cgroup": file("0::/host/path\n"), "sys/fs/cgroup/memory.max": file("300000000\n")}, 240000000},
		{"version 1", fstest.MapFS{"proc/self/cgroup": file("3:cpu:/x\n4:memory:/x\n"), "sys/fs/cgroup/memory/x/memory.limit_in_bytes": file("200000000\n")}, 160000000},
		{"version 1 without limit", fstest.MapFS{"proc/self/cgroup": file("4:memory:/\n"), "sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n")}, 0},
	} {
		if got := program.MemoryLimitOf(c.fs, 80, 50); got != c.want {
			t.Errorf("%s: limit = %d, want %d", c.name, got, c.want)
		}
	}
}

func TestGarbagePace(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		live int64
		want int
	}{
		{0, 1600},      // next collection at 16 times 4 MB
		{1 * mb, 1600}, // at 64 MB, too
		{8 * mb, 800},  // at 72 MB
		{128 * mb, 50}, // half more
		{1000 * mb, 50},
	} {
		if got := program.GCPercent(tt.live, 64*mb); got != tt.want {
			t.Errorf("%d MB live: %d %%, want %d", tt.live/mb, got, tt.want)
		}
	}
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	program.CollectGarbage(64 * mb)
	got := debug.SetGCPercent(100)
	if got < 50 || got == 100 {
		t.Errorf("the pace is %d %% after CollectGarbage", got)
	}
}
