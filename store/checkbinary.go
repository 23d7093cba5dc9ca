package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// binaryRowName is a binary's row as reports name it.
func binaryRowName(sha string) string {
	return fmt.Sprintf("%s %s %.64q", catalogFile, bucketBinaries, sha)
}

// listBinaries compares the files of binaries with the catalog's rows: the
// same rules as when a store is opened.
func (c *checker) listBinaries() error {
	blobs, _ := binariesIn(osFiles{}, c.dir)
	names, err := blobs.List()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	there := map[string]bool{}
	for _, sha := range names {
		there[sha] = true
		if c.content.binaries[sha] != nil {
			continue
		}
		if !c.content.lost && c.content.badBinaries[sha] == nil {
			c.note("%s: no row names it; a crash left it; the next start deletes it", binaryFile(sha))
			c.remove = append(c.remove, fix{problem: -1, files: func() error { return blobs.Delete(sha) }})
			continue
		}
		c.adoptBinary(blobs, sha)
	}
	for _, sha := range sortedKeys(c.content.badBinaries) {
		if !there[sha] {
			n := c.problem(CheckProblem{
				Where: binaryRowName(sha), Repair: "the row goes", Lost: &CheckLoss{},
				What: fmt.Sprintf("the row cannot be read (%v), and there is no file of that name", c.content.badBinaries[sha]),
			})
			c.forgetBinary(n, sha)
		}
	}
	return nil
}

// binariesWithoutCatalog takes the files of binaries for what the catalog
// would say.
func (c *checker) binariesWithoutCatalog() error {
	blobs, _ := binariesIn(osFiles{}, c.dir)
	names, err := blobs.List()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, sha := range names {
		row, err := inspectBinary(blobs, c.pk, sha)
		if err != nil {
			row = &StoredBinary{} // reading it tells what is wrong
		}
		c.content.binaries[sha] = row
	}
	return nil
}

// rebuildBinaries gives a new catalog the rows of binaries that it does not
// have. Those of damaged files are not made.
func (c *checker) rebuildBinaries(cat *catalog) error {
	blobs, _ := binariesIn(osFiles{}, c.dir)
	names, err := blobs.List()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, sha := range names {
		if v, err := cat.get(bucketBinaries, sha); v != nil || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		row, err := inspectBinary(blobs, c.pk, sha)
		if err != nil {
			c.setBinaryAside(CheckProblem{Where: binaryFile(sha), What: err.Error(), Lost: &CheckLoss{}}, sha)
			continue
		}
		raw, err := json.Marshal(row)
		if err != nil {
			return err
		}
		if err := cat.put(bucketBinaries, sha, raw); err != nil {
			return err
		}
	}
	return nil
}

// adoptBinary makes the row of a binary again that lost it.
func (c *checker) adoptBinary(blobs *dirBlobs, sha string) {
	p := CheckProblem{Where: binaryFile(sha), What: "no row names it, and rows may be lost", Repair: "a row is made"}
	if err := c.content.badBinaries[sha]; err != nil {
		p.Where, p.What = binaryRowName(sha), "the row cannot be read: "+err.Error()
	}
	row, err := inspectBinary(blobs, c.pk, sha)
	if err != nil {
		p.Where, p.What, p.Lost = binaryFile(sha), err.Error(), &CheckLoss{}
		c.setBinaryAside(p, sha)
		return
	}
	c.content.binaries[sha] = row
	c.fixEntry(c.problem(p), func(tx *bbolt.Tx) error {
		raw, err := json.Marshal(row)
		if err != nil {
			return err
		}
		return put(tx, bucketBinaries, []byte(sha), raw)
	})
}

func (c *checker) forgetBinary(problem int, sha string) {
	c.fixEntry(problem, func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bucketBinaries)).Delete([]byte(sha)) })
}

// setBinaryAside has Repair forget a binary that is damaged and keep its file
// under another name, so that it can be uploaded again.
func (c *checker) setBinaryAside(p CheckProblem, sha string) {
	p.Repair = "its file is kept under another name, and it can be uploaded again"
	n := c.problem(p)
	c.forgetBinary(n, sha)
	c.remove = append(c.remove, fix{problem: n, files: func() error {
		name := filepath.Join(c.dir, binaryFile(sha))
		return (osFiles{}).Rename(name, brokenName(name, c.o.Now()))
	}})
}

// binaries reads the files of all binaries there are rows of.
func (c *checker) binaries() error {
	blobs, _ := binariesIn(c.blobs.ops, c.dir)
	if c.online {
		for _, sha := range sortedKeys(c.content.badBinaries) {
			c.problem(CheckProblem{Where: binaryRowName(sha), What: "the row cannot be read: " + c.content.badBinaries[sha].Error(), Repair: "the row is made again"})
		}
	}
	for _, sha := range sortedKeys(c.content.binaries) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		err := c.binary(blobs, sha)
		if err := c.ctx.Err(); err != nil {
			return err
		}
		switch {
		case errors.Is(err, os.ErrNotExist) && c.online && !c.there(sha): // it went since the check began
		case errors.Is(err, os.ErrNotExist):
			n := c.problem(CheckProblem{Where: binaryFile(sha), What: "there is a row of it, but no file", Lost: &CheckLoss{}, Repair: "the row goes; it can be uploaded again"})
			c.forgetBinary(n, sha)
		case err != nil:
			c.setBinaryAside(CheckProblem{Where: binaryFile(sha), What: err.Error(), Lost: &CheckLoss{}}, sha)
		default:
			c.report.Binaries++
		}
		c.rest(began)
	}
	return nil
}

// binary reads a file: its checksums, and with Deep the SHA-256 of what they
// are of.
func (c *checker) binary(blobs *dirBlobs, sha string) error {
	if _, err := inspectBinary(blobs, c.pk, sha); err != nil {
		return err
	}
	blob, err := blobs.Open(sha)
	if err != nil {
		return err
	}
	f, err := openBinaryFile(blob, c.pk)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	for i := range f.frames {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if !c.o.Deep {
			_, err = f.stored(i)
		} else if raw, ferr := f.frame(i); ferr != nil {
			err = ferr
		} else {
			sum.Write(raw)
		}
		if err != nil {
			return err
		}
		c.advance(binaryFile(sha), int64(f.frames[i].length))
	}
	if got := hex.EncodeToString(sum.Sum(nil)); c.o.Deep && got != sha {
		return fmt.Errorf("%w: its SHA-256 is %s", errBinary, got)
	}
	return nil
}
