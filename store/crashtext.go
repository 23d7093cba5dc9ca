package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// PutCrashText stores what a process wrote while it died. A shorter text never
// takes the place of a longer one. ErrNotFound if there is no such crash,
// ErrTooLarge, ErrDiskFull.
func (s *Store) PutCrashText(ctx context.Context, id string, text []byte) error {
	if err := s.beginWrite(); err != nil {
		return err
	}
	defer s.writers.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	if most := s.o.crashes.textSize; int64(len(text)) > most {
		return inquest.Errorf(inquest.ErrTooLarge, "the text has %d bytes, %d are the most", len(text), most)
	}
	c, err := s.Crash(id)
	if err != nil {
		return err
	}
	name := textBlobName(id, text)
	if int64(len(text)) < c.TextBytes || c.TextBlob == name || len(text) == 0 {
		return nil
	}
	if err := s.checkSpace(int64(len(text))); err != nil {
		return err
	}
	x := &s.crashes
	x.writes.Lock() // the blob is there, or nobody names it
	defer x.writes.Unlock()
	_ = x.texts.ops.Remove(x.texts.path(name) + tempSuffix) // of a write whose disk failed
	if err := x.texts.Put(name, func(w io.Writer) error {
		_, err := w.Write(appendPacked(nil, s.pk, text))
		return err
	}); err != nil {
		return s.writeError(err)
	}
	return s.nameText(id, name, int64(len(text)))
}

// nameText has a crash name its text; x.writes is held.
func (s *Store) nameText(id, name string, size int64) error {
	var t *crashTx
	used := false
	err := s.catalog.update(func(tx *bbolt.Tx) error {
		t = s.newCrashTx(tx)
		c, err := t.get(id)
		if err != nil {
			return err
		}
		if c == nil {
			return errNoCrash(id) // it went meanwhile
		}
		if c.TextBytes > size {
			return nil
		}
		next := *c
		next.TextBlob, next.TextBytes, next.Tier = name, size, higher(c.Tier, inquest.TierText)
		used = true
		return t.put(c, &next)
	})
	if !used && (err == nil || refused(err)) {
		err = errors.Join(err, s.crashes.texts.Delete(name))
	}
	return s.crashesChanged(t, err)
}

// textBlobName is the name of a text's blob.
func textBlobName(id string, text []byte) string {
	sum := sha256.Sum256(text)
	return id + "-" + hex.EncodeToString(sum[:])
}

// CrashText returns the text of a crash. ErrNotFound if there is none.
func (s *Store) CrashText(id string) ([]byte, error) {
	c, err := s.Crash(id)
	if err != nil {
		return nil, err
	}
	if c.TextBlob == "" {
		return nil, inquest.Errorf(inquest.ErrNotFound, "no text of crash %s is here", id)
	}
	text, err := readText(s.crashes.texts, s.pk, c.TextBlob)
	if errors.Is(err, os.ErrNotExist) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "the text of crash %s has just gone", id)
	}
	if err != nil {
		return nil, fmt.Errorf("read the text of crash %s: %w", id, err)
	}
	return text, nil
}

// readText reads a text and verifies it.
func readText(texts *dirBlobs, pk *packer, name string) ([]byte, error) {
	b, err := texts.Open(name)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	size, err := b.Size()
	if err != nil {
		return nil, err
	}
	if size == 0 || size > 2*defaultCrashBounds.textSize {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	raw := make([]byte, size)
	if err := readFull(b, raw, 0); err != nil {
		return nil, err
	}
	text, err := readPacked(pk, raw, defaultCrashBounds.textSize)
	if err != nil {
		return nil, err
	}
	id, _, _ := strings.Cut(name, "-")
	if textBlobName(id, text) != name {
		return nil, errors.New("its SHA-256 is not that of its name")
	}
	return text, nil
}
