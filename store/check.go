package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// CheckOptions say which directory is checked, and how. Only Dir has no
// default.
type CheckOptions struct {
	Dir string
	// Repair sets aside what is lost, removes marks that are wrong, makes a
	// catalog again that cannot be used, and finishes what a crash left half done.
	// Without it nothing is written.
	Repair bool
	// Deep decodes every value too: totals, references, dictionaries. Without it
	// checksums say that everything is as it was written.
	Deep     bool
	Now      func() time.Time    // default time.Now
	Progress func(CheckProgress) // called now and then from one goroutine; nil = not at all
}

// CheckProgress says how far a check is.
type CheckProgress struct {
	What        string  `json:"what"` // the file being read
	Done, Total int64   `json:"-"`    // bytes
	Part        float64 `json:"part"` // 0 to 1
	Problems    int     `json:"problems"`
}

// CheckReport is what a check found.
type CheckReport struct {
	Deep      bool           `json:"deep"`
	Online    bool           `json:"online"` // of a store that was open
	Began     time.Time      `json:"began"`
	Seconds   float64        `json:"seconds"`
	Blocks    int            `json:"blocks"`
	Parts     int            `json:"parts"`    // services in blocks
	Profiles  int64          `json:"profiles"` // in blocks
	Streams   int64          `json:"streams"`  // pieces of blocks that have a checksum
	Bytes     int64          `json:"bytes"`    // read
	Space     CheckSpace     `json:"space"`    // what blocks hold
	LogFiles  int            `json:"log_files"`
	Commits   int            `json:"log_commits"`
	Logged    int64          `json:"log_profiles"` // in the log; some are in blocks too
	Builds    int            `json:"builds"`
	Binaries  int            `json:"binaries"`
	Crashes   int            `json:"crashes"`
	Texts     int            `json:"texts"` // of crashes
	Cores     int            `json:"cores"`
	Baselines int            `json:"baselines"`
	Problems  []CheckProblem `json:"problems"`
	// More counts problems beyond the bound of the list.
	More int `json:"more,omitempty"`
	// Notes are things that need nobody: a crash leaves them, the next start
	// clears them away.
	Notes []string `json:"notes,omitempty"`
}

// CheckSpace is what the parts of blocks take on the disk, in bytes, as far as
// they can be read. Dictionaries are names, stacks and labels.
type CheckSpace struct {
	Profiles     int64 `json:"profiles"`
	Dictionaries int64 `json:"dictionaries"` // of blocks with profiles
	FiveMinutes  int64 `json:"rollups_5m"`
	Hours        int64 `json:"rollups_1h"`
	Days         int64 `json:"rollups_1d"`
	Fleet        int64 `json:"fleet_tables"`        // of functions
	RollupNames  int64 `json:"rollup_dictionaries"` // of all but profiles
	Digests      int64 `json:"digests"`
}

// Rollups is what all but profiles and digests take.
func (s *CheckSpace) Rollups() int64 {
	return s.FiveMinutes + s.Hours + s.Days + s.Fleet + s.RollupNames
}

// Whole says that nothing is wrong and nothing is lost, or not any more.
func (r *CheckReport) Whole() bool { return r.Left() == 0 }

// Left counts the problems that are not repaired, or were by setting aside
// what is lost.
func (r *CheckReport) Left() (n int) {
	for i := range r.Problems {
		if p := &r.Problems[i]; !p.Repaired || p.Lost != nil {
			n++
		}
	}
	return n + r.More
}

// CheckProblem is one thing that is wrong.
type CheckProblem struct {
	Where string     `json:"where"`          // file in the directory, and what of it
	What  string     `json:"what"`           // what is wrong
	Lost  *CheckLoss `json:"lost,omitempty"` // what it costs; nil = nothing, or it is counted elsewhere
	// Repair says what Repair does about it; "" if nothing can be done.
	Repair   string `json:"repair,omitempty"`
	Repaired bool   `json:"repaired,omitempty"`
	// Known says that an earlier repair or reader has set the damage aside
	// already: everything else is served.
	Known bool `json:"known,omitempty"`
}

// CheckLoss is what cannot be read any more.
type CheckLoss struct {
	Services []string  `json:"services,omitempty"` // [first, last] of many if Many
	Many     bool      `json:"many,omitempty"`
	Rollups  bool      `json:"rollups,omitempty"` // cells of rollups: as long as there are profiles, those answer
	Profiles int64     `json:"profiles"`
	From     time.Time `json:"from,omitzero"` // first and last start
	Until    time.Time `json:"until,omitzero"`
}

// maxCheckProblems bounds the list of a report.
const maxCheckProblems = 1000

// checker is one check under way.
type checker struct {
	o      CheckOptions
	ctx    context.Context
	dir    string
	pk     *packer
	blobs  *dirBlobs
	report *CheckReport
	online bool
	there  func(sha string) bool  // online: whether the store has a binary
	named  func(name string) bool // online: whether the store has a text or a core

	content *catalogContent
	blocks  map[string]*checkedBlock
	total   int64
	what    string
	shown   time.Time

	// What Repair does, in this order: files that are written, entries of the
	// catalog, files that go.
	write  []fix
	update []fix
	remove []fix
}

// fix is a repair of one problem.
type fix struct {
	problem int // in the report; -1 = of none that is listed
	files   func() error
	catalog func(tx *bbolt.Tx) error
}

// Check verifies a data directory that no process has open. It returns an
// error, ErrInUse for one, when it could not check; what is wrong with the
// data is in the report.
func Check(ctx context.Context, o CheckOptions) (*CheckReport, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if st, err := os.Stat(o.Dir); err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("check store: %s is no directory", o.Dir)
	}
	lock, err := lockDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	defer lock.Close()
	c := &checker{
		o: o, ctx: ctx, dir: o.Dir, pk: newPacker(), blobs: blocksIn(osFiles{}, o.Dir),
		report: &CheckReport{Deep: o.Deep, Began: o.Now().UTC(), Problems: []CheckProblem{}}, blocks: map[string]*checkedBlock{},
	}
	if err := c.directory(); err != nil {
		return nil, fmt.Errorf("check store: %w", err)
	}
	c.report.Seconds = o.Now().Sub(c.report.Began).Seconds()
	return c.report, nil
}

// directory checks everything there is in a directory.
func (c *checker) directory() error {
	if err := c.offlineCatalog(); err != nil {
		return err
	}
	if err := c.listFiles(); err != nil {
		return err
	}
	if err := c.sideFiles(); err != nil {
		return err
	}
	if err := c.listBinaries(); err != nil {
		return err
	}
	log, err := listLog(osFiles{}, filepath.Join(c.dir, logDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := c.everything(log); err != nil || !c.o.Repair {
		return err
	}
	return c.repair()
}

// everything checks the blocks of the catalog, the log, and that they fit
// together.
func (c *checker) everything(log []*logFile) error {
	for _, row := range c.content.rows {
		c.total += row.size
	}
	for _, f := range log {
		c.total += f.size
	}
	for _, row := range c.content.binaries {
		c.total += row.StoredBytes
	}
	for _, row := range c.content.cores {
		c.total += row.StoredBytes
	}
	for _, id := range sortedKeys(c.content.rows) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		c.block(id, c.content.rows[id])
		c.rest(began)
	}
	if err := c.ctx.Err(); err != nil { // the last block may be half read
		return err
	}
	if err := c.binaries(); err != nil {
		return err
	}
	if err := c.postmortem(); err != nil {
		return err
	}
	c.sources()
	c.marks()
	if err := c.twice(); err != nil {
		return err
	}
	if err := c.log(log); err != nil {
		return err
	}
	return c.ctx.Err()
}

// problem adds to the report and returns its number there, -1 beyond the
// bound.
func (c *checker) problem(p CheckProblem) int {
	if len(c.report.Problems) >= maxCheckProblems {
		c.report.More++
		return -1
	}
	c.report.Problems = append(c.report.Problems, p)
	return len(c.report.Problems) - 1
}

func (c *checker) note(format string, args ...any) {
	if len(c.report.Notes) < maxCheckProblems {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
	}
}

// fixEntry has Repair change the catalog.
func (c *checker) fixEntry(problem int, f func(tx *bbolt.Tx) error) {
	c.update = append(c.update, fix{problem: problem, catalog: f})
}

// advance says that n more bytes have been read of a file.
func (c *checker) advance(what string, n int64) {
	c.report.Bytes += n
	now := time.Now()
	if c.o.Progress == nil || what == c.what && now.Sub(c.shown) < 200*time.Millisecond {
		return
	}
	c.what, c.shown = what, now
	p := CheckProgress{What: what, Done: c.report.Bytes, Total: max(c.total, c.report.Bytes), Problems: len(c.report.Problems) + c.report.More}
	if p.Total > 0 {
		p.Part = float64(p.Done) / float64(p.Total)
	}
	c.o.Progress(p)
}
