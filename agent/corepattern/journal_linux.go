package corepattern

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// coredumpMessage is the id that systemd-coredump's entries have in the
// journal, see SD_MESSAGE_COREDUMP.
const coredumpMessage = "fc2e22bc6ee647b6b90729ab34a250b1"

// coredumpField is what the names of their fields begin with.
const coredumpField = "COREDUMP_"

// coredumpXattr is what the names of a stored file's attributes begin with.
const coredumpXattr = "user.coredump."

// journalTime bounds how long journalctl may search, and journalBytes what it
// may answer.
const (
	journalTime  = 10 * time.Second
	journalBytes = 1 << 20
)

// told is what systemd-coredump knew of the death whose core is in a file: the
// fields of its journal entry, and where that is gone, the attributes of the
// file, which are fewer.
func told(ctx context.Context, journalctl string, file *os.File) map[string]string {
	m := xattrs(file)
	for k, v := range journalEntry(ctx, journalctl, file.Name()) {
		m[k] = v
	}
	return m
}

// xattrs are the attributes of a file, under the names of the fields.
func xattrs(file *os.File) map[string]string {
	m := map[string]string{}
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(file.Fd()), list)
	if err != nil {
		return m
	}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		short, ok := strings.CutPrefix(name, coredumpXattr)
		if !ok {
			continue
		}
		value := make([]byte, 64<<10)
		if n, err := unix.Fgetxattr(int(file.Fd()), name, value); err == nil {
			m[strings.ToUpper(short)] = string(value[:n])
		}
	}
	return m
}

// journalEntry asks the journal for the entry of a stored core; nil if there
// is none.
func journalEntry(ctx context.Context, journalctl, path string) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, journalctl, "--no-pager", "--quiet", "--output=json", "--lines=1",
		"MESSAGE_ID="+coredumpMessage, "COREDUMP_FILENAME="+path)
	out := &bytes.Buffer{}
	cmd.Stdout = &capped{out, journalBytes}
	if cmd.Run() != nil {
		return nil
	}
	var entry map[string]any // a field may also be a list of bytes, or null if it is long
	if json.NewDecoder(out).Decode(&entry) != nil {
		return nil
	}
	m := map[string]string{}
	for k, v := range entry {
		short, ok := strings.CutPrefix(k, coredumpField)
		if s, isText := v.(string); ok && isText {
			m[short] = s
		}
	}
	return m
}

// capped takes no more than so many bytes.
type capped struct {
	to   *bytes.Buffer
	left int
}

func (c *capped) Write(p []byte) (int, error) {
	if len(p) > c.left {
		return 0, unix.ENOSPC
	}
	c.left -= len(p)
	return c.to.Write(p)
}
