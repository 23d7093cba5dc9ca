package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/goinquest/inquest/internal/upload"
	"github.com/goinquest/inquest/symbolize"
)

const (
	defaultUploadRate = 10 << 20 // bytes a second
	maxSums           = 64       // hashes of files that are remembered
	uploadTries       = 8        // in a row without progress: some minutes
)

// binaries uploads executables that the collector lacks, one at a time and
// slowly. What fails for good is forgotten: the collector asks again, later.
type binaries struct {
	agent *Agent
	wake  chan struct{}

	mu     sync.Mutex
	queue  []string // build ids, the first is being uploaded if busy
	busy   bool
	now    inquest.Upload // but for Waiting
	hashes []fileSum
}

// fileSum is the hash of a file as it was.
type fileSum struct {
	info   fs.FileInfo
	sha256 string
}

func newBinaries(a *Agent) *binaries { return &binaries{agent: a, wake: make(chan struct{}, 1)} }

// want takes up what the collector asks for.
func (b *binaries) want(ids []string) {
	if len(ids) == 0 || slices.Contains(b.agent.refuses(), inquest.RefuseUpload) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		if id != "" && !slices.Contains(b.queue, id) {
			b.queue = append(b.queue, id)
		}
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// state is what the agent reports of its uploads.
func (b *binaries) state() inquest.Upload {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.now
	u.Waiting = len(b.queue)
	if b.busy {
		u.Waiting--
	}
	return u
}

// run uploads until ctx ends.
func (b *binaries) run(ctx context.Context) {
	for {
		id := b.next()
		if id == "" {
			select {
			case <-b.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		// Reloaded since it was asked for, the configuration may refuse it now.
		if !slices.Contains(b.agent.refuses(), inquest.RefuseUpload) {
			b.done(id, b.upload(ctx, id), ctx.Err() != nil)
		}
		b.mu.Lock()
		b.queue, b.busy = b.queue[1:], false
		b.now.Build, b.now.Sent, b.now.Bytes = "", 0, 0
		b.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}

// next is the build to upload now, "" if there is none.
func (b *binaries) next() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return ""
	}
	b.busy = true
	return b.queue[0]
}

// done notes what became of an upload, unless the agent stops.
func (b *binaries) done(id string, err error, stopping bool) {
	if stopping && err != nil {
		return
	}
	if err != nil {
		b.agent.log.Warn("executable not uploaded", inquest.LogBuildID, id, inquest.LogErr, err)
	}
	b.agent.held.uploaded(id, err)
	b.agent.channel.uploaded(id, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		b.now.LastError = fmt.Sprintf("build %s: %v", id, err)
		return
	}
	b.now.LastError = ""
	b.now.Uploaded++
}

// upload sends the executable of a build. The file is held open, so that its
// processes may end meanwhile.
func (b *binaries) upload(ctx context.Context, id string) error {
	f, err := b.open(id)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	sha, err := b.sum(ctx, f, info)
	if err != nil {
		return fmt.Errorf("hash executable: %w", err)
	}
	a, size := b.agent, info.Size()
	b.progress(id, 0, size)
	sender := upload.Sender{
		Base: a.collector.base, Do: a.collector.send, Tries: uploadTries,
		RateBytes: cmp.Or(max(a.opts.UploadRateBytes, 0), defaultUploadRate),
		Progress:  func(have int64) { b.progress(id, have, size) },
		Retrying: func(err error, pause time.Duration) {
			a.log.Info("upload executable, will try again", inquest.LogBuildID, id, "pause", pause, inquest.LogErr, err)
		},
	}
	begin := time.Now()
	stored, err := sender.Send(ctx, upload.Binary{ID: id, SHA256: sha, Bytes: size, Agent: a.ID(), File: f})
	if err != nil {
		return err
	}
	a.log.Info("executable uploaded", inquest.LogBuildID, id, "name", f.Name(), inquest.LogBytes, size, "already_there", stored.Here, inquest.LogDur, time.Since(begin))
	return nil
}

func (b *binaries) progress(id string, sent, size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now.Build, b.now.Sent, b.now.Bytes = id, sent, size
}

// open opens the executable of a process that runs a build now, and sees that
// it is what the id says, or that of a process that died.
func (b *binaries) open(id string) (*os.File, error) {
	var first error
	for _, process := range b.agent.processesOf(id) {
		f, err := host.OpenExecutable(process)
		if err == nil {
			var is *inquest.Build
			if is, err = symbolize.ReadBuild(f); err == nil && is.ID == id {
				return f, nil
			}
			if err == nil {
				err = inquest.Errorf(inquest.ErrNotFound, "process %s runs build %s now", process, is.ID)
			}
			_ = f.Close() // only read
		}
		first = cmp.Or(first, err)
	}
	if f, err := b.agent.held.open(id); err == nil {
		return f, nil
	}
	if first == nil {
		first = errors.New("no process that is known here runs it now")
	}
	return nil, first
}

// processesOf are the processes of targets that run a build.
func (a *Agent) processesOf(id string) []string {
	var out []string
	for _, t := range a.list() {
		s := t.current()
		if s.process != "" && s.build != nil && s.build.ID == id && !slices.Contains(out, s.process) {
			out = append(out, s.process)
		}
	}
	return out
}

// sum is the hash of a file, remembered as long as it looks the same.
func (b *binaries) sum(ctx context.Context, f *os.File, info fs.FileInfo) (string, error) {
	for _, h := range b.hashes {
		if os.SameFile(h.info, info) && h.info.Size() == info.Size() && h.info.ModTime().Equal(info.ModTime()) {
			return h.sha256, nil
		}
	}
	sha, err := symbolize.Sum(&endingReader{ctx, f}, info.Size())
	if err != nil {
		return "", err
	}
	if len(b.hashes) >= maxSums {
		b.hashes = b.hashes[1:]
	}
	b.hashes = append(b.hashes, fileSum{info, sha})
	return sha, nil
}

// endingReader reads a file until its context ends.
type endingReader struct {
	ctx  context.Context
	file *os.File
}

func (r *endingReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.file.ReadAt(p, off)
}
