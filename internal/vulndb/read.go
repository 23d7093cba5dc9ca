package vulndb

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/goinquest/inquest"
)

const maxFileBytes = 64 << 20 // of JSON; the largest entry there is has some hundred kilobytes

// Read reads a database: a file of JSON with one entry or an array of them, a
// zip archive of such files, or a directory. Of the latter two, what is below
// index/ says what there is, and is not read. ErrInvalid if something else is
// among it, or there is no entry.
func Read(name string) (*Database, error) {
	d := &Database{modules: map[string][]affected{}}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read vulnerabilities: %w", err)
	}
	if info.IsDir() {
		err = d.readAll(os.DirFS(name))
	} else {
		err = d.readFile(name)
	}
	if err == nil && len(d.modules) == 0 {
		err = inquest.Errorf(inquest.ErrInvalid, "there is no entry about a Go module in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read vulnerabilities in %s: %w", name, err)
	}
	return d, nil
}

// readFile reads a zip archive or a file of JSON.
func (d *Database) readFile(name string) error {
	z, err := zip.OpenReader(name)
	if errors.Is(err, zip.ErrFormat) {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		return d.read(f)
	}
	if err != nil {
		return err
	}
	return errors.Join(d.readAll(z), z.Close())
}

func (d *Database) readAll(files fs.FS) error {
	return fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && e.Name() == "index":
			return fs.SkipDir
		case !e.Type().IsRegular() || path.Ext(name) != ".json" || strings.HasPrefix(e.Name(), "."):
			return nil
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		if err := d.read(f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// read adds what r holds, and closes it.
func (d *Database) read(r io.ReadCloser) error {
	data, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return err
	}
	if len(data) > maxFileBytes {
		return inquest.Errorf(inquest.ErrTooLarge, "more than %d bytes of JSON in one file", maxFileBytes)
	}
	return d.add(data)
}
