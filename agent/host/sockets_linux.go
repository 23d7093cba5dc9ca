package host

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
)

// maxFDs is how many open files of one process are looked at.
const maxFDs = 1 << 17

// attribute finds which process has which listening socket. A socket that is
// known keeps its owner while both live; only when a socket or a process is
// new are files looked at.
func (r *round) attribute(ports map[uint16]bool) {
	for inode, pid := range r.owners {
		if _, listening := r.listens[inode]; !listening || pid != 0 && (r.next[pid] == nil || r.fresh[pid]) {
			delete(r.owners, inode)
		}
	}
	missing := map[uint64]bool{} // never looked for
	for inode := range r.listens {
		if _, ok := r.owners[inode]; !ok {
			missing[inode] = true
		}
	}
	orphans := len(r.listens) > len(missing) // of which none of the known had it
	for _, pid := range r.pids {
		if k := r.next[pid]; k != nil && k.build != nil && (len(missing) > 0 || orphans && r.fresh[pid]) {
			r.walk(pid)
		}
	}
	r.forced(ports, missing)
	for inode := range missing {
		if _, ok := r.owners[inode]; !ok {
			r.owners[inode] = 0
		}
	}
}

// forced looks through the other processes for the owners of sockets on the
// ports that are asked for, ourselves first. What was looked for before and
// found nowhere can only be in a process that is new.
func (r *round) forced(ports map[uint16]bool, missing map[uint64]bool) {
	want, everywhere := map[uint64]bool{}, false
	for inode, addr := range r.listens {
		if ports[addr.Port()] && r.owners[inode] == 0 {
			want[inode] = true
			everywhere = everywhere || missing[inode]
		}
	}
	for _, pid := range append([]int{os.Getpid()}, r.pids...) {
		if len(want) == 0 {
			return
		}
		if k := r.next[pid]; k != nil && k.build != nil || !everywhere && !r.fresh[pid] {
			continue
		}
		r.walk(pid)
		found := false
		for inode := range want {
			if r.owners[inode] == pid {
				delete(want, inode)
				found = true
			}
		}
		if found {
			r.look(pid, true)
		}
	}
}

// walk looks at a process's open files for listening sockets.
func (r *round) walk(pid int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	d, err := os.Open(dir)
	if k := r.next[pid]; k != nil {
		k.blind = errors.Is(err, fs.ErrPermission)
	}
	if err != nil {
		return // it ended, or may not be looked at: its sockets stay without owner
	}
	names, _ := d.Readdirnames(maxFDs) // what was read before an error counts
	_ = d.Close()                      // only read
	for _, n := range names {
		link, err := os.Readlink(dir + "/" + n)
		if err != nil {
			continue
		}
		if inode, ok := ParseSocket(link); ok {
			if _, listening := r.listens[inode]; listening && r.owners[inode] == 0 {
				r.owners[inode] = pid
			}
		}
	}
}
