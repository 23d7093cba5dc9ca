// Package push stores executables, libraries and debug companions in a
// collector: `inquest push` is this package with flags. It finds ELF files,
// says of each what it is, and sends what the collector does not have. It
// knows the collector by its API alone.
package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/remote"
	"github.com/goinquest/inquest/internal/upload"
	"github.com/goinquest/inquest/symbolize"
)

// What became of a file.
const (
	stateStored   = "stored"
	stateThere    = "already there"
	stateRefused  = "refused"
	stateFailed   = "failed"
	stateNotSent  = "not sent"  // it did not come to that
	stateNotFound = "not found" // of source: none of the files is on this machine
)

// File is one file and what became of it.
type File struct {
	Path    string  `json:"path"`
	ID      string  `json:"id,omitempty"`
	SHA256  string  `json:"sha256,omitempty"`
	Bytes   int64   `json:"bytes"`
	Kind    string  `json:"kind"` // one of inquest.Binary…
	Arch    string  `json:"arch"`
	Go      string  `json:"go_version,omitempty"` // "" if Go did not build it
	DWARF   bool    `json:"dwarf"`
	State   string  `json:"state"` // stored, already there, refused, failed or not sent
	Error   string  `json:"error,omitempty"`
	Warning string  `json:"warning,omitempty"` // what it cannot do, and what helps
	Source  *Source `json:"source,omitempty"`  // nil: not asked for, or sent for another file of the build

	symtab bool
	build  inquest.Build
	built  time.Time // when it was written
}

// Options say what to send where.
type Options struct {
	Paths     []string // files, and directories that are searched for ELF files
	SourceDir string   // if not "", the source of programs is sent too: the root of their main module, for what -trimpath built
	Client    *remote.Client
	RateBytes int64                           // a second, at most; 0: no bound
	Progress  func(part float64, what string) // part from 0 to 1, below 0 if it is not known; may be nil
}

// Report is what became of all files.
type Report struct {
	Files   []File `json:"files"`
	Skipped int    `json:"skipped"` // ELF files in directories that have no build id
}

// Run sends files. The error is about a path that cannot be read, or of kind
// inquest.ErrInvalid if there is nothing to send; what becomes of each file is
// in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Progress == nil {
		o.Progress = func(float64, string) {}
	}
	r := &Report{Files: []File{}}
	found, err := find(ctx, o.Paths)
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		o.Progress(-1, "read "+f.path)
		is, err := identify(f.path)
		switch {
		case err != nil:
			return nil, err
		case is.ID == "" && !f.named:
			r.Skipped++
		case slices.ContainsFunc(r.Files, func(x File) bool { return x.Path == is.Path }):
		default:
			r.Files = append(r.Files, *is)
		}
	}
	if len(r.Files) == 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "no ELF file with a build id is in %q: name executables, libraries or debug companions", o.Paths)
	}
	// A companion is checked against its program, if that is there.
	slices.SortStableFunc(r.Files, func(a, b File) int { return order(&a) - order(&b) })
	r.warn()
	if o.SourceDir != "" {
		if err := o.checkSourceDir(r.Files); err != nil {
			return nil, err
		}
	}
	if err := o.reach(ctx, r.Files[0].ID); err != nil {
		return nil, err
	}
	return r, o.sendAll(ctx, r)
}

// sendAll sends all files, then the source of all programs. It returns an
// error that others would meet as well.
func (o *Options) sendAll(ctx context.Context, r *Report) error {
	for i := range r.Files {
		f := &r.Files[i]
		if f.State != stateNotSent {
			continue
		}
		if err := o.send(ctx, f); err != nil {
			f.State, f.Error = failure(err)
			if err := passOn(ctx, err); err != nil {
				return err
			}
		}
	}
	for i := range r.Files {
		if o.SourceDir == "" {
			break
		}
		f := &r.Files[i]
		if err := o.sendSource(ctx, r, f); err != nil {
			f.Source.State, f.Source.Error = failure(err)
			if err := passOn(ctx, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// passOn returns the error if it is of no use to go on after it.
func passOn(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return errors.New("stopped; pushed again, it goes on where it was")
	case everywhere(err):
		return err
	}
	return nil
}

func order(f *File) int {
	if f.Kind == inquest.BinaryDebug {
		return 1
	}
	return 0
}

// identify says what a file is; one without a build id is refused already.
func identify(path string) (*File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	b, err := symbolize.Identify(in, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := &File{
		Path: filepath.Clean(path), ID: b.ID, Bytes: b.Bytes, Kind: b.Kind, Arch: b.Arch, Go: b.GoVersion, DWARF: b.DWARF,
		State: stateNotSent, symtab: b.Symtab, build: b.Build, built: info.ModTime(),
	}
	if f.ID == "" {
		f.State, f.Error = stateRefused, "it has no build id, so nothing could be found by it: link with --build-id (gcc: -Wl,--build-id), or do not strip notes"
	}
	return f, nil
}

// warn says of programs what they cannot do without debug information, unless
// their companion comes along.
func (r *Report) warn() {
	for i := range r.Files {
		f := &r.Files[i]
		if f.DWARF || slices.ContainsFunc(r.Files, func(x File) bool { return x.ID == f.ID && x.DWARF }) {
			continue
		}
		switch {
		case f.Kind == inquest.BinaryDebug:
			f.Warning = "no DWARF: a debug companion without it is of no use"
		case f.Go != "":
			f.Warning = "no DWARF: names and lines work, variables will not; push before strip, or push its debug companion as well"
		case f.symtab:
			f.Warning = "no DWARF: names of functions work, lines will not; push its debug companion as well"
		default:
			f.Warning = "no DWARF and no symbols: only exported functions have names; push its debug companion as well"
		}
	}
}

// reach asks the collector for something small, so that a wrong address or
// token is told at once and not after many tries.
func (o *Options) reach(ctx context.Context, id string) error {
	body, err := json.Marshal(map[string][]string{"ids": {id}})
	if err != nil {
		return err
	}
	u := o.Client.Base().JoinPath("api/v1/builds/missing").String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	_, err = o.Client.Read(req)
	return err
}

// send sends one file, if the collector does not have it.
func (o *Options) send(ctx context.Context, f *File) error {
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	if f.SHA256, err = symbolize.Sum(in, f.Bytes); err != nil {
		return err
	}
	stored, err := o.sender(f).Send(ctx, upload.Binary{ID: f.ID, SHA256: f.SHA256, Bytes: f.Bytes, File: in})
	if err != nil {
		return err
	}
	f.State = stateStored
	if stored.Here {
		f.State = stateThere
	}
	return nil
}

// sender sends a file and shows how it goes.
func (o *Options) sender(f *File) *upload.Sender {
	p := &pace{file: f, show: o.Progress}
	return &upload.Sender{
		Base: o.Client.Base(), Do: o.Client.Do, RateBytes: o.RateBytes, Progress: p.have,
		Retrying: func(err error, pause time.Duration) {
			o.Progress(-1, fmt.Sprintf("%s: again in %v: %v", filepath.Base(f.Path), pause.Round(time.Second), err))
		},
	}
}

// everywhere says whether other files would fare no better.
func everywhere(err error) bool {
	var r *remote.Refusal
	return errors.As(err, &r) && r.Status == 0 || errors.Is(err, inquest.ErrUnauthorized) || errors.Is(err, inquest.ErrForbidden)
}

// failure says what an error makes of a file.
func failure(err error) (state, text string) {
	state, text = stateFailed, err.Error()
	if !upload.Passing(err) {
		state = stateRefused
	}
	var r *remote.Refusal
	if errors.Is(err, inquest.ErrTooLarge) && errors.As(err, &r) {
		text += "; the collector's setting -max-binary says how large one may be, or a proxy before it is narrower than 32 MiB a request"
	}
	return state, text
}

// Failures counts what is not stored, of files and their sources: refused for
// good, and for another reason; of is how many there are.
func (r *Report) Failures() (refused, failed, of int) {
	for i := range r.Files {
		f := &r.Files[i]
		states := []string{f.State}
		if f.Source != nil {
			states = append(states, f.Source.State)
		}
		of += len(states)
		for _, state := range states {
			switch state {
			case stateRefused:
				refused++
			case stateFailed, stateNotSent, "":
				failed++
			}
		}
	}
	return refused, failed, of
}
