package crashtext

import (
	"context"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/goinquest/inquest/coredump"
)

const (
	defaultInterval = time.Second
	lookEvery       = 2 * time.Second // for new files and processes
	maxFiles        = 1024
)

// WatchOptions say what to read. All but Joiner and State may be zero.
type WatchOptions struct {
	Joiner *Joiner
	// Files are patterns as of path/filepath.Match, for log files of services
	// and of containers (/var/log/containers/*.log,
	// /var/lib/docker/containers/*/*-json.log).
	Files []string
	// Journal has the messages of journald read that came from standard output
	// and error, those of Units only if there are some.
	Journal bool
	Units   []string
	// JournalCommand reads them, default journalctl.
	JournalCommand []string
	// Processes lists Go processes: where the standard error of one is a file,
	// that is read too, and a text is known to be of the process. It is called
	// every two seconds.
	Processes func() []int
	// State is the file that remembers how far was read, so that nothing is read
	// twice or left out over a restart. "" forgets.
	State    string
	Interval time.Duration // between looks at files, default one second
	Limits   coredump.TextLimits
	Logger   *slog.Logger
}

// Watcher finds crash texts in logs. Of a file that is there when nothing is
// remembered yet, what it holds is history and is not read.
type Watcher struct {
	options WatchOptions
	owners  owners
	ctx     context.Context
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	files  map[string]*follower // by path; of the goroutine that polls
	looked time.Time
	first  bool // nothing was remembered, and this is the first look

	mu       sync.Mutex
	state    state
	changed  bool
	watching []string
}

// NewWatcher returns a Watcher that does not read yet. An error is about the
// patterns, of kind inquest.ErrInvalid, or about the state.
func NewWatcher(o WatchOptions) (*Watcher, error) {
	if o.Interval <= 0 {
		o.Interval = defaultInterval
	}
	if len(o.JournalCommand) == 0 {
		o.JournalCommand = []string{"journalctl"}
	}
	if o.Processes == nil {
		o.Processes = func() []int { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := checkPatterns(o.Files); err != nil {
		return nil, err
	}
	s, found, err := readState(o.State)
	if err != nil {
		return nil, err
	}
	w := &Watcher{options: o, files: map[string]*follower{}, state: s, first: !found, owners: owners{byID: map[string]*owner{}}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w, nil
}

// Start reads from where it was left.
func (w *Watcher) Start() {
	w.look()
	w.tasks.Add(1)
	go w.run()
	if w.options.Journal {
		w.tasks.Add(1)
		go w.runJournal()
	}
}

// Stop ends reading and remembers how far it came. A text that has begun is
// read again next time.
func (w *Watcher) Stop() {
	w.cancel()
	w.tasks.Wait()
	for _, f := range w.files {
		f.close()
	}
	w.save()
}

// Watching lists what is read, for people.
func (w *Watcher) Watching() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := append([]string{}, w.watching...)
	if w.options.Journal {
		out = append(out, "journal")
	}
	return out
}

func (w *Watcher) run() {
	defer w.tasks.Done()
	tick := time.NewTicker(w.options.Interval)
	defer tick.Stop()
	for {
		if time.Since(w.looked) >= lookEvery {
			w.look()
		}
		for path, f := range w.files {
			if !f.poll(w.ctx) {
				f.close()
				delete(w.files, path)
				w.forget(path)
				continue
			}
			w.remember(path, f.position())
		}
		w.save()
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look finds processes and files that are new.
func (w *Watcher) look() {
	w.looked = time.Now()
	files := w.owners.look(w.options.Processes())
	for _, p := range w.options.Files {
		found, _ := filepath.Glob(p) // patterns were checked
		for _, path := range found {
			files[path] = time.Time{}
		}
	}
	for path, since := range files {
		if w.files[path] != nil {
			continue
		}
		if len(w.files) >= maxFiles {
			w.options.Logger.Warn("too many log files to watch", "max", maxFiles)
			break
		}
		w.mu.Lock()
		pos, known := w.state.Files[path]
		w.mu.Unlock()
		if f := openFollower(w, path, pos, known, since); f != nil {
			w.files[path] = f
			w.remember(path, f.position())
		}
	}
	w.first = false
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watching = slices.Sorted(maps.Keys(w.files))
}

func (w *Watcher) remember(path string, p position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Files[path] != p {
		w.state.Files[path] = p
		w.changed = true
	}
}

func (w *Watcher) forget(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.state.Files, path)
	w.changed = true
}

// save writes the state if it is another than what was written.
func (w *Watcher) save() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.changed || w.options.State == "" {
		return
	}
	if err := w.state.write(w.options.State); err != nil {
		w.options.Logger.Warn("remember how far logs were read", "err", err)
		return
	}
	w.changed = false
}
