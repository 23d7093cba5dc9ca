package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// write prints what captures cost, with what they are to be held against.
func (b *captureBench) write(w io.Writer) error {
	r := &b.result
	var s strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&s, "%-52s %s\n", name, fmt.Sprintf(format, args...))
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	row("out of memory: address space, memory, stored", "%.1f GiB, %.1f MiB, %.1f MiB", mib(r.OOMVirtual)/1024, mib(r.OOMMemory), mib(r.OOMStored))
	row("  held, full core", "%.0f ms (%.0f ms seen from outside)", ms(r.OOMHeld), ms(r.OOMOutside))
	how := "whole"
	if !r.ZstdWhole {
		how = fmt.Sprintf("scaled from %.1f GiB", mib(r.ZstdBytes)/1024)
	}
	row("  held by a pipe handler through zstd -1", "%.1f s (%s)", r.ZstdHeld.Seconds(), how)
	row("  pipe handler ÷ ours", "%.0f", r.ZstdHeld.Seconds()/max(r.OOMHeld, r.OOMOutside).Seconds())
	row(fmt.Sprintf("server of a known build, %d minicores: held", helloRuns), "%.1f ms median, %.1f ms at most", ms(r.HelloHeld), ms(r.HelloWorst))
	row(fmt.Sprintf("heap of %d MiB: minicore, full core, stored", b.heapMiB), "%.2f MiB, %.1f MiB", mib(r.HeapMini), mib(r.HeapFull))
	row("  minicore ÷ full core", "%.2f %%", 100*float64(r.HeapMini)/float64(r.HeapFull))
	row("  held, minicore and full core", "%.0f ms, %.0f ms", ms(r.HeapMiniHeld), ms(r.HeapFullHeld))
	row("  stopped for a snapshot, minicore", "%.1f ms", ms(r.HeapStop))
	row(fmt.Sprintf("full core of %.1f GiB: the agent's peak memory", mib(r.BigMemory)/1024), "%.1f MiB, 1/%.0f of it", mib(r.BigPeak), float64(r.BigMemory)/float64(r.BigPeak))
	row("  held", "%.1f s", r.BigHeld.Seconds())
	row(fmt.Sprintf("%d rejected deaths: CPU each", r.Rejections), "%.2f ms, held %.2f ms", ms(r.RejectCPU), ms(r.RejectHeld))
	_, err := io.WriteString(w, s.String())
	return err
}
