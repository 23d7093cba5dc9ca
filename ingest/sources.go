package ingest

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// sourceComment begins the comment of a zip of source files; the build id
// follows.
const sourceComment = "inquest source "

// Bounds on source files.
const (
	maxSourceZip    = 256 << 20
	maxSourceFiles  = 100_000
	maxSourceBytes  = 4 << 20 // of one
	maxSourcePath   = 4 << 10
	upstreamSource  = 10 * time.Second // somebody waits for it
	keptSourceBytes = 16 << 20         // of what upstreams answered
	maxKeptSources  = 4096
)

// identifySource says which build a zip of source files is of; nil if it is no
// zip at all.
func identifySource(r io.ReaderAt, size int64) (*inquest.Binary, error) {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil || string(magic[:]) != "PK\x03\x04" {
		return nil, nil
	}
	if size > maxSourceZip {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "zip of source files: it has %d bytes, %d are the most", size, maxSourceZip)
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "zip of source files: %w", err)
	}
	id, ok := strings.CutPrefix(z.Comment, sourceComment)
	if !ok || id == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "zip of source files: its comment is %.100q, want %q and a build id", z.Comment, sourceComment)
	}
	if len(z.File) > maxSourceFiles {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "zip of source files: it has %d files, %d are the most", len(z.File), maxSourceFiles)
	}
	b := &inquest.Binary{Build: inquest.Build{ID: id}, Kind: inquest.BinarySource, Bytes: size}
	if _, err := hex.DecodeString(id); err == nil {
		b.GNUBuildID = id
	}
	return b, nil
}

// Source returns a source file of a build, by the path the compiler recorded: of
// what was uploaded with it, else of the servers that are asked for binaries,
// of which from says which. ErrNotFound if nobody has it.
func (b *Binaries) Source(ctx context.Context, build, file string) (text []byte, from string, err error) {
	if file == "" || len(file) > maxSourcePath {
		return nil, "", inquest.Errorf(inquest.ErrInvalid, "source file %.100q: want the path the compiler recorded", file)
	}
	id := storedID(build)
	for _, c := range b.o.Store.Binaries(id) {
		if c.Kind != inquest.BinarySource {
			continue
		}
		text, err := b.uploadedSource(c.SHA256, file)
		if !errors.Is(err, inquest.ErrNotFound) {
			return text, c.By, err
		}
	}
	if isGNUBuildID(id) {
		for _, up := range b.upstreams {
			text, err := b.askSource(ctx, up, id, file)
			if err == nil {
				return text, up.Host, nil
			}
			if ctx.Err() != nil {
				return nil, "", ctx.Err()
			}
			if !errors.Is(err, inquest.ErrNotFound) {
				b.o.Logger.Warn("source not fetched", inquest.LogBuildID, id, "file", file, "server", up.Host, inquest.LogErr, err)
			}
		}
	}
	return nil, "", inquest.Errorf(inquest.ErrNotFound, "source file %.300q of build %.200q is not here", file, build)
}

// uploadedSource reads a file of a zip.
func (b *Binaries) uploadedSource(sha, file string) ([]byte, error) {
	f, err := b.o.Store.OpenBinary(sha)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zip.NewReader(f, f.Size())
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "zip of source files %s: %w", sha, err)
	}
	r, err := z.Open(sourceName(file))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrInvalid) {
		return nil, inquest.Errorf(inquest.ErrNotFound, "it is not in the zip")
	}
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrUnavailable, "zip of source files %s: %w", sha, err)
	}
	defer r.Close()
	return readSource(r)
}

// sourceName is the name in a zip of a path that the compiler recorded: it has
// no leading slash.
func sourceName(file string) string { return strings.TrimPrefix(path.Clean(file), "/") }

func readSource(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSourceBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read source: %w", err)
	case len(text) > maxSourceBytes:
		return nil, inquest.Errorf(inquest.ErrTooLarge, "the source file has more than %d bytes", maxSourceBytes)
	}
	return text, nil
}

// keptSource is what an upstream said of a file.
type keptSource struct {
	at   time.Time
	text []byte // nil: it has it not
}

// askSource asks an upstream for a file, unless it answered lately.
func (b *Binaries) askSource(ctx context.Context, up *url.URL, id, file string) ([]byte, error) {
	key := up.Host + "\x00" + id + "\x00" + file
	b.mu.Lock()
	k, ok := b.sources[key]
	b.mu.Unlock()
	if ok && b.o.Now().Sub(k.at) < b.o.UpstreamPause {
		if k.text == nil {
			return nil, inquest.Errorf(inquest.ErrNotFound, "it was not there")
		}
		return k.text, nil
	}
	text, err := b.fetchSource(ctx, up, id, file)
	if err == nil || errors.Is(err, inquest.ErrNotFound) {
		b.keepSource(key, keptSource{b.o.Now(), bytes.Clone(text)})
	}
	return text, err
}

// fetchSource asks an upstream. The path is of a profile, so it must not lead
// to other places of the server.
func (b *Binaries) fetchSource(ctx context.Context, up *url.URL, id, file string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamSource)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, up.JoinPath("buildid", id, "source", path.Clean("/"+file)).String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("User-Agent", "inquest-collector")
	resp, err := b.client.Do(r)
	if err != nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // its URL may have a password in it
		}
		return nil, fmt.Errorf("ask: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return readSource(resp.Body)
	case http.StatusNotFound:
		return nil, inquest.Errorf(inquest.ErrNotFound, "it is not there")
	}
	return nil, fmt.Errorf("ask: answered %s", resp.Status)
}

// keepSource remembers an answer, and forgets all when there are too many.
func (b *Binaries) keepSource(key string, k keptSource) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sourceBytes += len(k.text); len(b.sources) >= maxKeptSources || b.sourceBytes > keptSourceBytes {
		clear(b.sources)
		b.sourceBytes = len(k.text)
	}
	b.sources[key] = k
}
