package host

import (
	"os"
	"strings"

	"github.com/goinquest/inquest"
)

// OpenExecutable opens the file that a process (by its id, see Process.ID)
// runs: the very file, also when its name is gone, another file has it, or it
// is in another mount namespace. Once open it stays readable when the process
// ends. ErrNotFound if the process has ended, or may not be looked at.
func OpenExecutable(id string) (*os.File, error) {
	parts := strings.Split(id, ":")
	if len(parts) != 3 {
		return nil, inquest.Errorf(inquest.ErrNotFound, "process %q: the id does not say which one", id)
	}
	f, err := os.Open("/proc/" + parts[1] + "/exe")
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "open the executable of process %s: %w", parts[1], err)
	}
	// The pid may be another process's by now.
	if !Alive(id) {
		_ = f.Close() // only read
		return nil, inquest.Errorf(inquest.ErrNotFound, "process %s has ended", parts[1])
	}
	return f, nil
}
