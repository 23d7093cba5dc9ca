// Package spool keeps the profiles an agent took until the collector has
// them, in a directory with a quota, together with the baselines from which
// the next deltas are made.
//
// What it promises, over a kill between any two file operations and over a
// loss of power: a profile whose Put returned is there until Done, Refuse or
// the quota takes it; its sequence, and so its idempotency key, never belongs
// to another one; and a baseline moves together with the profile made from
// it, never alone. For the last, the new state is first written beside the
// old one, naming the sequence it goes with, then the profile, then the new
// state takes the old one's place, and only then is the profile handed out.
// A state whose profile is not there is thrown away when the spool is opened.
//
// The package knows no HTTP and no pprof: bodies and baselines are bytes. The
// layout on disk stands in layout.go. A Spool is safe for use by several
// goroutines; it keeps none of its own.
package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/durable"
)

// Options say where a spool is and how much it may hold.
type Options struct {
	Dir        string           // made if it is not there
	QuotaBytes int64            // most it takes on disk; default 1 GiB
	MaxAge     time.Duration    // older profiles are dropped: collectors forget keys after 25 h; default 24 h
	AgentID    string           // "" = the one kept in Dir, made at random the first time
	Logger     *slog.Logger     // default: none
	Now        func() time.Time // default time.Now

	// AfterOp is called after every file operation, for tests that copy the
	// directory there to see what a crash would leave.
	AfterOp func(op string)
}

const (
	defaultQuotaBytes = 1 << 30
	defaultMaxAge     = 24 * time.Hour
	keptRefused       = 16      // refused profiles kept to look at
	keptDamaged       = 16      // damaged files kept to look at
	reserveStep       = 1 << 10 // sequences reserved by one write
)

// Spool is an open spool directory.
type Spool struct {
	files   durable.Files
	quota   int64
	maxAge  time.Duration
	log     *slog.Logger
	now     func() time.Time
	lock    *os.File
	agentID string
	prefix  [8]byte // first half of every key

	commitMu   sync.Mutex      // held while a batch is committed
	unpromoted map[string]bool // by file key: the .next still has to take the old one's place; under commitMu

	pendMu  sync.Mutex
	pending []*put

	mu        sync.Mutex
	entries   []*entry         // by sequence
	bytes     int64            // on disk: queue, baselines, refused, damaged
	baselines map[string]int64 // size of each, by file key
	next      uint64           // sequence to give away next
	reserved  uint64           // sequences below it may be given away
	shipped   int64
	dropped   int64
	refused   int64
	damaged   int64
	lastError string
	closed    bool
	wake      chan struct{}
}

// entry is one committed profile.
type entry struct {
	seq       uint64
	size      int64
	taken     time.Time
	claimed   bool
	notBefore time.Time
	attempts  int
}

// Open opens the spool in o.Dir, making it if it is not there, and repairs
// what a crash left. Of kind inquest.ErrConflict if another process has it.
func Open(o Options) (*Spool, error) {
	s := &Spool{
		files: durable.Files{Root: o.Dir, After: o.AfterOp}, quota: o.QuotaBytes, maxAge: o.MaxAge, log: o.Logger, now: o.Now,
		baselines: map[string]int64{}, unpromoted: map[string]bool{}, wake: make(chan struct{}, 1),
	}
	if s.quota <= 0 {
		s.quota = defaultQuotaBytes
	}
	if s.maxAge <= 0 {
		s.maxAge = defaultMaxAge
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	for _, d := range []string{"", dirQueue, dirBaselines, dirRefused, dirDamaged} {
		if err := os.MkdirAll(s.files.Path(d), 0o700); err != nil {
			return nil, fmt.Errorf("make spool directory: %w", err)
		}
	}
	lock, err := durable.Lock(s.files.Path(nameLock))
	if err != nil {
		return nil, err
	}
	s.lock = lock
	if err := s.recover(o.AgentID); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", o.Dir, err), lock.Close())
	}
	return s, nil
}

// Close gives the directory back. Profiles that are claimed stay in it.
func (s *Spool) Close() error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.lock.Close()
}

// AgentID is the id of the agent that owns the spool.
func (s *Spool) AgentID() string { return s.agentID }

// recover reads the directory.
func (s *Spool) recover(agentID string) error {
	if _, err := s.files.List(""); err != nil {
		return err
	}
	s.agentID = agentID
	if agentID == "" {
		id, err := s.textFile(nameAgentID)
		if err != nil {
			return err
		}
		s.agentID = id
	}
	if err := s.recoverQueue(); err != nil {
		return err
	}
	if err := s.recoverBaselines(); err != nil {
		return err
	}
	if err := s.recoverSequence(); err != nil {
		return err
	}
	identity, err := s.textFile(nameIdentity)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(s.agentID + "\x00" + identity))
	copy(s.prefix[:], sum[:])
	return nil
}

// textFile reads a name kept in a file of its own. If it is not there or
// empty a random one is made and kept.
func (s *Spool) textFile(name string) (string, error) {
	data, err := os.ReadFile(s.files.Path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if text != "" && len(text) <= 128 {
		return text, nil
	}
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	text = hex.EncodeToString(b[:])
	if err := s.files.Write("", name, []byte(text+"\n")); err != nil {
		return "", err
	}
	return text, s.files.SyncDir("")
}

func (s *Spool) recoverQueue() error {
	queued, err := s.files.List(dirQueue)
	if err != nil {
		return err
	}
	for _, f := range queued {
		seq, ok := parseProfileName(f.Name)
		if !ok {
			s.quarantine(dirQueue, f.Name, f.Info.Size(), "the name is not that of a spooled profile")
			continue
		}
		s.entries = append(s.entries, &entry{seq: seq, size: f.Info.Size(), taken: f.Info.ModTime()})
		s.bytes += f.Info.Size()
	}
	sort.Slice(s.entries, func(i, j int) bool { return s.entries[i].seq < s.entries[j].seq })
	for _, d := range []string{dirRefused, dirDamaged} {
		kept, err := s.files.List(d)
		if err != nil {
			return err
		}
		for _, f := range kept {
			s.bytes += f.Info.Size()
		}
	}
	return nil
}

// recoverSequence finds a sequence that was never given away under the
// spool's identity. If what was given away is not known any more, only a new
// identity makes sure that no key is used twice; queued profiles keep theirs.
func (s *Spool) recoverSequence() error {
	data, err := os.ReadFile(s.files.Path(nameSequence))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.next, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	s.next = max(s.next, 1)
	if n := len(s.entries); n > 0 {
		s.next = max(s.next, s.entries[n-1].seq+1)
	}
	s.reserved = s.next
	if err == nil {
		return nil
	}
	// In this order: the sequence is never there beside an identity under
	// which it may have been used.
	if err := s.files.Remove(nameIdentity); err != nil {
		return err
	}
	if err := s.files.SyncDir(""); err != nil {
		return err
	}
	return s.files.Write("", nameSequence, []byte(strconv.FormatUint(s.next, 10)+"\n"))
}

// reserve makes n sequences from s.next on safe to give away: after a restart
// the spool goes on behind them.
func (s *Spool) reserve(n uint64) error {
	if s.next+n <= s.reserved {
		return nil
	}
	upTo := s.next + n + reserveStep
	if err := s.files.Write("", nameSequence, []byte(strconv.FormatUint(upTo, 10)+"\n")); err != nil {
		return err
	}
	if err := s.files.SyncDir(""); err != nil {
		return err
	}
	s.reserved = upTo
	return nil
}

// quarantine moves a file that cannot be read out of the way. Callers hold
// s.mu or are the only user.
func (s *Spool) quarantine(dir, name string, size int64, why string) {
	s.damaged++
	s.log.Error("spool file damaged, moved aside", "file", name, inquest.LogErr, why)
	if err := s.files.Rename(dir+"/"+name, dirDamaged+"/"+name); err != nil {
		s.log.Error("move damaged spool file", "file", name, inquest.LogErr, err)
		return
	}
	s.bytes += size
	s.trim(dirDamaged, keptDamaged)
}

// trim keeps the newest n files of a directory. Callers hold s.mu or are the
// only user.
func (s *Spool) trim(dir string, n int) {
	kept, err := s.files.List(dir)
	if err != nil || len(kept) <= n {
		return
	}
	sort.Slice(kept, func(i, j int) bool {
		a, b := kept[i].Info.ModTime(), kept[j].Info.ModTime()
		return a.Before(b) || a.Equal(b) && kept[i].Name < kept[j].Name
	})
	for _, f := range kept[:len(kept)-n] {
		if s.files.Remove(dir+"/"+f.Name) == nil {
			s.bytes -= f.Info.Size()
		}
	}
}
