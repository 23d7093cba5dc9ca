package host

import "time"

// Identity is who a process is. It stays readable until the process is waited
// for, but for Exe, which is gone with its memory.
type Identity struct {
	PID     int
	Parent  int
	UID     int       // real
	ID      string    // see Process.ID
	Started time.Time // to about ten milliseconds
	Exe     string    // path of the executable, as the kernel names it; "" if it cannot be read
}
