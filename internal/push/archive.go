package push

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/goinquest/inquest"
)

// What a collector takes of the source of a build.
const (
	sourceComment    = "inquest source " // and the build id: the comment of the zip
	mostArchiveBytes = 256 << 20
	mostArchiveFiles = 100_000
)

// archive is a zip of source files. Its bytes depend on the build and the
// files alone, so what was sent once is not sent again.
type archive struct {
	zip  *zip.Writer
	out  counter
	seen map[string]bool
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func newArchive(w io.Writer, build string) (*archive, error) {
	a := &archive{out: counter{w: w}, seen: map[string]bool{}}
	a.zip = zip.NewWriter(&a.out)
	return a, a.zip.SetComment(sourceComment + build)
}

// add adds a file under the path that the compiler recorded, without its slash
// in front. Files come in the order of their names. It does not add a file
// twice, nor one whose path no zip may have.
func (a *archive) add(name string, text []byte) (added bool, err error) {
	entry := strings.TrimPrefix(path.Clean(name), "/")
	if !fs.ValidPath(entry) || entry == "." || a.seen[entry] {
		return false, nil
	}
	if len(a.seen) == mostArchiveFiles {
		return false, inquest.Errorf(inquest.ErrTooLarge, "the source has more than %d files, which are the most a collector takes", mostArchiveFiles)
	}
	a.seen[entry] = true
	w, err := a.zip.CreateHeader(&zip.FileHeader{Name: entry, Method: zip.Deflate}) // no time
	if err != nil {
		return false, fmt.Errorf("zip %s: %w", entry, err)
	}
	if _, err := w.Write(text); err != nil {
		return false, fmt.Errorf("zip %s: %w", entry, err)
	}
	return true, a.check()
}

func (a *archive) check() error {
	if a.out.n > mostArchiveBytes {
		return inquest.Errorf(inquest.ErrTooLarge, "the source takes more than %d MB compressed, which is the most a collector takes", mostArchiveBytes>>20)
	}
	return nil
}

// finish ends the zip and returns its size.
func (a *archive) finish() (size int64, err error) {
	if err := a.zip.Close(); err != nil {
		return 0, fmt.Errorf("zip: %w", err)
	}
	return a.out.n, a.check()
}
