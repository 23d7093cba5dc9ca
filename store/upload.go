package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
)

// Bounds on uploads that are not whole yet.
const (
	maxUploads    = 64
	uploadsOfMost = 4              // times the largest binary are announced together
	uploadAge     = 24 * time.Hour // after the last byte
	uploadRush    = time.Hour      // the same when others want to begin
	uploadStep    = 256 << 10      // received and written at once
	uploadRecheck = 16 << 20       // bytes between two looks at the disk
)

// uploads are binaries of which something is here. Their names say all there
// is to know of them, so they survive a restart.
type uploads struct {
	s   *Store
	dir string

	mu   sync.Mutex
	open map[string]*upload // by SHA-256
}

// upload is one of them; whoever has it busy owns the file.
type upload struct {
	sha     string
	size    int64 // of the whole
	have    int64 // bytes that are here; what follows in the file is of a write that failed
	touched time.Time
	busy    bool
}

func (u *uploads) init(s *Store) {
	u.s, u.dir, u.open = s, filepath.Join(s.o.Dir, uploadDir), map[string]*upload{}
}

func (u *uploads) path(x *upload) string {
	return filepath.Join(u.dir, x.sha+"-"+strconv.FormatInt(x.size, 10)+uploadSuffix)
}

// restore takes up what an earlier run left.
func (u *uploads) restore() error {
	ops := u.s.ops
	if err := ops.MkdirAll(u.dir, 0o700); err != nil {
		return fmt.Errorf("create upload directory: %w", err)
	}
	entries, err := ops.ReadDir(u.dir)
	if err != nil {
		return fmt.Errorf("list uploads: %w", err)
	}
	for _, e := range entries {
		x := parseUpload(e.Name())
		if x != nil {
			st, err := ops.Stat(u.path(x))
			if err != nil {
				return fmt.Errorf("open upload: %w", err)
			}
			// The clock of the files may not be the one the store goes by.
			x.have, x.touched = st.Size(), u.s.o.Now().Add(-max(0, time.Since(st.ModTime())))
		}
		if x == nil || x.have > x.size || u.s.hasBinary(x.sha) {
			if err := ops.Remove(filepath.Join(u.dir, e.Name())); err != nil {
				return fmt.Errorf("remove upload: %w", err)
			}
			continue
		}
		u.open[x.sha] = x
	}
	return nil
}

// parseUpload reads the name of an upload's file, nil if it is none.
func parseUpload(name string) *upload {
	name, ok := strings.CutSuffix(name, uploadSuffix)
	sha, text, _ := strings.Cut(name, "-")
	size, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || size <= 0 || !isSHA256(sha) {
		return nil
	}
	return &upload{sha: sha, size: size}
}

// isSHA256 says whether text is 64 hex digits in lower case.
func isSHA256(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && hex.EncodeToString(raw) == text
}

// BeginUpload begins the upload of a binary, or goes on with one: offset is
// how many of its bytes are here already, all of them if it is stored. The
// SHA-256 of the whole is in hex. ErrInvalid, ErrTooLarge (Options.BinaryBytes),
// ErrConflict (another size was announced), ErrBusy (too many uploads are
// unfinished), ErrDiskFull.
func (s *Store) BeginUpload(sha string, size int64) (offset int64, stored bool, err error) {
	switch {
	case !isSHA256(sha):
		return 0, false, inquest.Errorf(inquest.ErrInvalid, "SHA-256 %.80q: want 64 hex digits in lower case", sha)
	case size <= 0:
		return 0, false, inquest.Errorf(inquest.ErrInvalid, "a binary of %d bytes: want its size", size)
	case size > s.o.BinaryBytes:
		return 0, false, s.tooLargeBinary()
	}
	if stored, err = s.storedAlready(sha); stored || err != nil {
		return size, stored, err
	}
	u := &s.binaries.uploads
	u.mu.Lock()
	defer u.mu.Unlock()
	if x := u.open[sha]; x != nil {
		if x.size != size {
			return 0, false, inquest.Errorf(inquest.ErrConflict, "binary %s was announced with %d bytes before, now with %d", sha, x.size, size)
		}
		return x.have, false, nil
	}
	x := &upload{sha: sha, size: size, touched: s.o.Now()}
	if err := u.room(size); err != nil {
		return 0, false, err
	}
	u.open[sha] = x
	return 0, false, nil
}

func (s *Store) tooLargeBinary() error {
	return inquest.Errorf(inquest.ErrTooLarge, "the binary has more than %d bytes, which is the most this collector stores", s.o.BinaryBytes)
}

// storedAlready says whether a binary is stored, durably.
func (s *Store) storedAlready(sha string) (bool, error) {
	x := s.binaries
	x.mu.RLock()
	r := x.rows[sha]
	unsure := r != nil && r.unsure
	x.mu.RUnlock()
	if !unsure {
		return r != nil, nil
	}
	row, err := s.Binary(sha)
	if err == nil {
		err = s.putBinaryRow(row)
	}
	if err != nil {
		return false, s.writeError(err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if r := x.rows[sha]; r != nil {
		r.unsure = false
	}
	return true, nil
}

// room says whether one more upload of a size may begin; u.mu is held.
func (u *uploads) room(size int64) error {
	u.expire(uploadAge)
	if !u.fits(size) {
		u.expire(uploadRush)
	}
	if !u.fits(size) {
		return inquest.Errorf(inquest.ErrBusy, "%d uploads of binaries are unfinished: try again later", len(u.open))
	}
	left := size
	for _, x := range u.open {
		left += x.size - x.have
	}
	// It is there twice while it is being compressed, half as large the second time.
	return u.s.checkSpace(left + size/2)
}

// fits says whether one more upload of a size keeps the bounds; u.mu is held.
func (u *uploads) fits(size int64) bool {
	all := size
	for _, x := range u.open {
		all += x.size
	}
	return len(u.open) == 0 || len(u.open) < maxUploads && all <= uploadsOfMost*u.s.o.BinaryBytes
}

// expire forgets uploads that nobody goes on with; u.mu is held.
func (u *uploads) expire(age time.Duration) {
	now := u.s.o.Now()
	for _, x := range u.open {
		if !x.busy && now.Sub(x.touched) > age {
			u.drop(x)
			u.s.o.Logger.Info("unfinished upload of a binary given up", "sha256", x.sha, inquest.LogBytes, x.have)
		}
	}
}

// drop forgets an upload; u.mu is held.
func (u *uploads) drop(x *upload) {
	delete(u.open, x.sha)
	_ = u.s.ops.Remove(u.path(x)) // else it is cut off by the next one, or found at the next start
}

// take makes an upload the caller's, to be given back with give.
func (u *uploads) take(sha string) (*upload, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	x := u.open[sha]
	switch {
	case x == nil:
		return nil, inquest.Errorf(inquest.ErrNotFound, "no upload of binary %.64q has begun", sha)
	case x.busy:
		return nil, inquest.Errorf(inquest.ErrBusy, "binary %s is being uploaded by somebody else at this moment", sha)
	}
	x.busy = true
	return x, nil
}

func (u *uploads) give(x *upload, drop bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	x.busy, x.touched = false, u.s.o.Now()
	if drop {
		u.drop(x)
	}
}

// AppendUpload adds bytes from offset on, which must be where the upload is,
// and returns how many are here in all: after an error too, when it goes on
// from there. ErrConflict (another offset), ErrTooLarge (more than announced),
// ErrBusy (somebody else is at it), ErrDiskFull, or the error of r.
func (s *Store) AppendUpload(ctx context.Context, sha string, offset int64, r io.Reader) (have int64, err error) {
	if err := s.beginWrite(); err != nil {
		return 0, err
	}
	defer s.writers.Done()
	u := &s.binaries.uploads
	x, err := u.take(sha)
	if err != nil {
		return 0, err
	}
	defer u.give(x, false)
	if offset != x.have {
		return x.have, inquest.Errorf(inquest.ErrConflict, "%d bytes of binary %s are here, so %d cannot follow", x.have, sha, offset)
	}
	err = u.receive(ctx, x, r)
	return x.have, err
}

// receive writes what r holds behind what is here.
func (u *uploads) receive(ctx context.Context, x *upload, r io.Reader) (err error) {
	f, err := u.s.ops.OpenFile(u.path(x), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return u.s.writeError(err)
	}
	defer func() {
		if e := f.Close(); err == nil && e != nil {
			err = u.s.writeError(e)
		}
	}()
	if err := f.Truncate(x.have); err != nil {
		return u.s.writeError(err)
	}
	buf := make([]byte, uploadStep)
	looked := int64(-uploadRecheck)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if x.have-looked >= uploadRecheck {
			if err := u.s.checkSpace(0); err != nil {
				return err
			}
			looked = x.have
		}
		n, rerr := fill(r, buf)
		if int64(n) > x.size-x.have {
			return inquest.Errorf(inquest.ErrTooLarge, "more than the announced %d bytes of binary %s come", x.size, x.sha)
		}
		if _, err := f.Write(buf[:n]); err != nil {
			return u.s.writeError(err)
		}
		x.have += int64(n)
		if errors.Is(rerr, io.EOF) {
			return nil
		}
		if rerr != nil {
			return rerr
		}
	}
}

// fill reads until b is full or r ends or fails.
func fill(r io.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var got int
		got, err = r.Read(b[n:])
		n += got
	}
	return n, err
}

// spool writes what r holds to a file of no upload and says what it is.
func (u *uploads) spool(ctx context.Context, r io.Reader, most int64) (path, sha string, size int64, err error) {
	u.mu.Lock()
	err = u.room(0)
	u.mu.Unlock()
	if err != nil {
		return "", "", 0, err
	}
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	path = filepath.Join(u.dir, hex.EncodeToString(name[:])+tempSuffix)
	f, err := u.s.ops.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", "", 0, u.s.writeError(err)
	}
	sum := sha256.New()
	buf := make([]byte, uploadStep)
	for looked := int64(0); err == nil; {
		if err = ctx.Err(); err != nil {
			break
		}
		if size-looked >= uploadRecheck {
			if err = u.s.checkSpace(0); err != nil {
				break
			}
			looked = size
		}
		n, rerr := fill(r, buf)
		if size += int64(n); size > most {
			err = inquest.Errorf(inquest.ErrTooLarge, "the binary has more than %d bytes, which are the most taken here", most)
			break
		}
		sum.Write(buf[:n])
		if _, werr := f.Write(buf[:n]); werr != nil {
			err = u.s.writeError(werr)
		} else {
			err = rerr
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if e := f.Close(); err == nil && e != nil {
		err = u.s.writeError(e)
	}
	if err == nil && size == 0 {
		err = inquest.Errorf(inquest.ErrInvalid, "the body is empty; it must be the executable")
	}
	return path, hex.EncodeToString(sum.Sum(nil)), size, err
}

// Provenance is what is to be noted of an upload.
type Provenance struct {
	ID     string // under which it is uploaded: it must be one of its own; "" = whatever it is
	By     string // name of the token, id of the agent, or host
	Source string // one of the Source… constants
}

// Identify says what a binary is. Its error is of kind ErrInvalid for what is
// none.
type Identify func(r io.ReaderAt, size int64) (*inquest.Binary, error)

// CommitUpload stores a binary that is here as a whole, if its bytes have the
// announced SHA-256 and identify finds the id in it under which it came. It
// returns when it is durable. ErrConflict names both ids; ErrInvalid is about
// the bytes. After these two it is gone and must be uploaded again.
func (s *Store) CommitUpload(sha string, p Provenance, identify Identify) (*StoredBinary, error) {
	if stored, err := s.storedAlready(sha); err != nil {
		return nil, err
	} else if stored {
		return s.sameBinary(sha, p)
	}
	if err := s.beginWrite(); err != nil {
		return nil, err
	}
	defer s.writers.Done()
	u := &s.binaries.uploads
	x, err := u.take(sha)
	if err != nil {
		return nil, err
	}
	if x.have != x.size {
		u.give(x, false)
		return nil, inquest.Errorf(inquest.ErrConflict, "%d of %d bytes of binary %s are here", x.have, x.size, sha)
	}
	b, err := s.storeFile(u.path(x), x.sha, x.size, p, identify)
	u.give(x, err == nil || errors.Is(err, inquest.ErrInvalid) || errors.Is(err, inquest.ErrConflict))
	return b, err
}

// PutBinary stores a binary of which neither size nor SHA-256 is known before,
// of at most that many bytes, as BeginUpload to CommitUpload do. It cannot be
// resumed.
func (s *Store) PutBinary(ctx context.Context, r io.Reader, most int64, p Provenance, identify Identify) (*StoredBinary, error) {
	if err := s.beginWrite(); err != nil {
		return nil, err
	}
	defer s.writers.Done()
	most = min(most, s.o.BinaryBytes)
	u := &s.binaries.uploads
	file, sha, size, err := u.spool(ctx, r, most)
	if file != "" {
		defer func() { _ = s.ops.Remove(file) }() // else the next start does
	}
	if err != nil {
		return nil, err
	}
	if stored, err := s.storedAlready(sha); err != nil {
		return nil, err
	} else if stored {
		return s.sameBinary(sha, p)
	}
	return s.storeFile(file, sha, size, p, identify)
}

// sameBinary is the answer to an upload of what is stored already. One of a
// pipeline makes it a pipeline's.
func (s *Store) sameBinary(sha string, p Provenance) (*StoredBinary, error) {
	b, err := s.Binary(sha)
	if err != nil {
		return nil, err
	}
	if err := claimed(b, p.ID); err != nil {
		return nil, err
	}
	if slices.Index(binarySources, p.Source) >= slices.Index(binarySources, b.Source) {
		return b, nil
	}
	b.Source, b.By = p.Source, p.By
	if err := s.putBinaryRow(b); err != nil {
		return nil, s.writeError(err)
	}
	s.binaries.mu.Lock()
	defer s.binaries.mu.Unlock()
	s.binaries.add(newBinaryRow(b))
	return b, nil
}

// storeFile makes a stored binary of a whole file.
func (s *Store) storeFile(path, sha string, size int64, p Provenance, identify Identify) (*StoredBinary, error) {
	x := s.binaries
	x.making <- struct{}{}
	defer func() { <-x.making }()
	f, err := s.ops.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "open upload: %w", err)
	}
	defer f.Close()
	is, err := identify(f, size)
	if err != nil {
		return nil, err
	}
	b := &StoredBinary{Binary: *is, Uploaded: s.o.Now().UTC(), By: p.By, Source: p.Source}
	b.SHA256, b.Bytes = sha, size
	if err := claimed(b, p.ID); err != nil {
		return nil, err
	}
	x.files.RLock()
	defer x.files.RUnlock()
	if s.hasBinary(sha) {
		return s.Binary(sha) // it came twice at once
	}
	if err := s.checkSpace(size / 2); err != nil {
		return nil, err
	}
	_ = s.ops.Remove(x.blobs.path(sha) + tempSuffix) // of a write whose disk failed
	err = x.blobs.Put(sha, func(w io.Writer) error {
		return writeBinary(w, s.pk, io.NewSectionReader(f, 0, size), b)
	})
	if errors.Is(err, inquest.ErrInvalid) || errors.Is(err, inquest.ErrTooLarge) {
		return nil, err
	}
	if err != nil {
		return nil, s.writeError(err)
	}
	return b, s.enterBinary(b)
}

// claimed says whether a binary has the id under which it comes.
func claimed(b *StoredBinary, id string) error {
	ids := b.IDs()
	for _, have := range ids {
		if id == "" || have == id {
			return nil
		}
	}
	if len(ids) == 0 {
		return inquest.Errorf(inquest.ErrInvalid, "the binary has neither a GNU build id nor one of Go, so it could not be found again")
	}
	return inquest.Errorf(inquest.ErrConflict, "the binary is build %s, not %.200s", strings.Join(ids, " or "), id)
}

// enterBinary gives a binary, whose file is durable, its row.
func (s *Store) enterBinary(b *StoredBinary) error {
	x := s.binaries
	err := s.putBinaryRow(b)
	row := newBinaryRow(b)
	if err != nil {
		if there, _ := s.catalog.get(bucketBinaries, b.SHA256); there == nil {
			return s.writeError(errors.Join(err, x.blobs.Delete(b.SHA256)))
		}
		row.unsure = true // it is in force, but a power cut may take it back
	}
	x.mu.Lock()
	x.add(row)
	x.mu.Unlock()
	if err != nil {
		return s.writeError(err)
	}
	s.o.Logger.Info("binary stored", inquest.LogBuildID, b.ID, "sha256", b.SHA256, inquest.LogBytes, b.Bytes, "stored", b.StoredBytes,
		"dwarf", b.DWARF, "source", b.Source, "by", b.By)
	return nil
}
