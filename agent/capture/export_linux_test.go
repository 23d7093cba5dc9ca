package capture

import (
	"fmt"

	"github.com/goinquest/inquest/coredump"
)

// PagesBothWays are the pages of a process that are in memory, as the ioctl
// and as the file tells them, and what only one of them has.
func PagesBothWays(pid int) (ioctl, file, onlyIoctl, onlyFile uint64, err error) {
	data, err := readSome(fmt.Sprintf("/proc/%d/maps", pid), maxMapsBytes)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	p, err := openPages(pid)
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer p.Close()
	for _, r := range parseMaps(data) {
		if r.keep(defaultFilter) == keepNone {
			continue // as the pages of the kernel are
		}
		var lists [2][]coredump.Extent
		for i, slow := range []bool{false, true} {
			was := p.slow
			p.slow = was || slow
			err = p.each(r.Extent, func(e coredump.Extent, c uint64) {
				if c&pageZero == 0 {
					lists[i] = appendExtent(lists[i], e)
				}
			})
			p.slow = was
			if err != nil {
				return 0, 0, 0, 0, err
			}
		}
		ioctl, file = ioctl+sum(lists[0]), file+sum(lists[1])
		onlyIoctl += sum(subtract(lists[0], lists[1]))
		onlyFile += sum(subtract(lists[1], lists[0]))
	}
	return ioctl, file, onlyIoctl, onlyFile, nil
}
