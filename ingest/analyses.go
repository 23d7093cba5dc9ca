package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump/analysis"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/store"
)

const (
	analysisPause = time.Minute // between two looks at what is to be done, and before what failed for want of something is tried again
	analysisTries = 3           // of what fails in a way that may pass
	analysisExes  = 4           // executables of one build that are tried
)

// AnalysesOptions configure an Analyses. Store, Binaries and Crashes are
// required; the zero value of everything else works.
type AnalysesOptions struct {
	Store    *store.Store
	Binaries *Binaries
	Crashes  *Crashes
	Logger   *slog.Logger
	Now      func() time.Time
	// Limits of the child that looks at a core; zero: those of package analysis.
	Limits sandbox.Limits
	// Unconfined has cores looked at where the base of the sandbox does not hold.
	Unconfined bool
}

// Analyses finds out what stored cores tell, one after the other, each in a
// sandboxed child. What is to be done follows from what is stored, so nothing
// is lost when it ends. The program calls sandbox.Main with analysis.Stage.
type Analyses struct {
	o      AnalysesOptions
	wake   chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu  sync.Mutex
	off string // why nothing is done

	tries map[string]analysisTry // of the one goroutine
}

// analysisTry is a core that could not be looked at, for a reason that may pass.
type analysisTry struct {
	times int
	next  time.Time
}

// NewAnalyses makes an Analyses. From Start to Stop it works.
func NewAnalyses(o AnalysesOptions) *Analyses {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Analyses{o: o, wake: make(chan struct{}, 1), tries: map[string]analysisTry{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	o.Binaries.mu.Lock()
	o.Binaries.arrived = a.look
	o.Binaries.mu.Unlock()
	o.Crashes.mu.Lock()
	o.Crashes.committed = a.look
	o.Crashes.mu.Unlock()
	return a
}

// Start begins to work in the background.
func (a *Analyses) Start() { a.work.Go(a.run) }

// Stop ends what is under way; the next run begins it anew.
func (a *Analyses) Stop() {
	a.cancel()
	a.work.Wait()
}

// look has it see what is to be done now.
func (a *Analyses) look() {
	select {
	case a.wake <- struct{}{}:
	default: // it is about to
	}
}

// probe looks once whether the base of the sandbox holds: without it nothing is done.
func (a *Analyses) probe() bool {
	_, err := sandbox.Probe(a.ctx)
	if err == nil || a.ctx.Err() != nil {
		return a.ctx.Err() == nil
	}
	if a.o.Unconfined {
		a.o.Logger.Warn("cores are analysed without a sandbox, as configured", inquest.LogErr, err)
		return true
	}
	a.o.Logger.Error("cores are not analysed", inquest.LogErr, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.off = err.Error()
	return false
}

func (a *Analyses) run() {
	if !a.probe() {
		return
	}
	tick := time.NewTicker(analysisPause)
	defer tick.Stop()
	for {
		for a.ctx.Err() == nil {
			core, exes := a.next()
			if core == nil {
				break
			}
			a.analyse(core, exes)
		}
		select {
		case <-a.ctx.Done():
			return
		case <-a.wake:
		case <-tick.C:
		}
	}
}

// next is a core that is to be looked at, the newest first, with the
// executables it may be of.
func (a *Analyses) next() (*store.StoredCore, []store.StoredBinary) {
	done := a.o.Store.CoreReports()
	now := a.o.Now()
	cores := a.o.Store.Cores("", "")
	maps.DeleteFunc(a.tries, func(id string, _ analysisTry) bool {
		return !slices.ContainsFunc(cores, func(c store.StoredCore) bool { return c.ID == id })
	})
	for i := range cores {
		c := &cores[i]
		if t, ok := a.tries[c.ID]; !c.Complete || ok && now.Before(t.next) {
			continue
		}
		exes := a.executables(c)
		if key, ok := done[c.ID]; len(exes) > 0 && (!ok || key != reportKey(exes)) {
			return c, exes
		}
	}
	return nil, nil
}

// executables are the stored programs that a core may be of, the best first.
// For one there is none of, other servers are asked.
func (a *Analyses) executables(c *store.StoredCore) (out []store.StoredBinary) {
	for _, id := range a.builds(c) {
		if _, err := a.o.Binaries.Executable(id); err != nil {
			continue
		}
		for _, b := range a.o.Store.Binaries(id) {
			same := func(o store.StoredBinary) bool { return o.SHA256 == b.SHA256 }
			if b.Program() && len(out) < analysisExes && !slices.ContainsFunc(out, same) {
				out = append(out, b)
			}
		}
	}
	return out
}

// builds are the ids of the build a core is said to be of.
func (a *Analyses) builds(c *store.StoredCore) []string {
	ids := []string{c.Build, c.GoBuildID}
	if c.Build == "" && c.GoBuildID == "" {
		if crash, err := a.o.Store.Crash(c.Crash); err == nil {
			ids = []string{crash.Build}
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

// reportKey says what a report was made by and of.
func reportKey(exes []store.StoredBinary) uint64 {
	var s strings.Builder
	fmt.Fprint(&s, analysis.Version)
	for i := range exes {
		s.WriteString(" " + exes[i].SHA256)
	}
	return xxhash.Sum64String(s.String())
}

// analyse looks at a core, and keeps what comes of it.
func (a *Analyses) analyse(c *store.StoredCore, exes []store.StoredBinary) {
	began := time.Now()
	doc := &inquest.CoreAnalysis{State: inquest.AnalysisFailed, Version: analysis.Version}
	var err error
	for i := range exes {
		doc.Executable = exes[i].SHA256
		if doc.Report, doc.Trust, err = a.report(c, &exes[i]); !errors.Is(err, inquest.ErrConflict) {
			break // else another one of the same id may be the right one
		}
	}
	if a.ctx.Err() != nil || errors.Is(err, inquest.ErrNotFound) && a.gone(c.ID) {
		return
	}
	doc.At, doc.Took = a.o.Now().UTC(), time.Since(began)
	if passing(err) {
		t := a.tries[c.ID]
		if t.times++; t.times < analysisTries {
			t.next = a.o.Now().Add(analysisPause)
			a.tries[c.ID] = t
			a.o.Logger.Warn("core not analysed, to be tried again", "core", c.ID, inquest.LogErr, err)
			return
		}
	}
	if err == nil {
		doc.State = inquest.AnalysisDone
	} else {
		doc.How, doc.Reason = failure(err)
	}
	if err = a.keep(c, doc, reportKey(exes)); err != nil && !a.gone(c.ID) {
		a.tries[c.ID] = analysisTry{next: a.o.Now().Add(analysisPause)}
		a.o.Logger.Error("analysis of a core not kept", "core", c.ID, inquest.LogErr, err)
		return
	}
	delete(a.tries, c.ID)
	a.o.Logger.Info("core analysed", "core", c.ID, "crash", c.Crash, "state", doc.State, "reason", doc.Reason, inquest.LogDur, doc.Took)
}

func (a *Analyses) gone(id string) bool {
	_, err := a.o.Store.Core(id)
	return errors.Is(err, inquest.ErrNotFound)
}

// passing says that an error is about this moment, not about the core.
func passing(err error) bool {
	return errors.Is(err, inquest.ErrUnavailable) || errors.Is(err, inquest.ErrDiskFull) || errors.Is(err, inquest.ErrNotFound)
}

// failure spells how an analysis failed.
func failure(err error) (how, reason string) {
	how = "error"
	if f := (*sandbox.Failure)(nil); errors.As(err, &f) {
		how = f.How
	} else if errors.Is(err, inquest.ErrConflict) {
		how = "mismatch"
	}
	return how, clip(sandbox.Clean(err.Error(), maxTextBytes))
}

// report has a child make the report.
func (a *Analyses) report(c *store.StoredCore, exe *store.StoredBinary) (*inquest.CoreReport, inquest.Trust, error) {
	core, err := a.o.Store.LendCore(c.ID)
	if err != nil {
		return nil, "", err
	}
	defer core.Close()
	f, err := a.o.Store.LendBinary(exe.SHA256)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	said := ""
	if ids := a.builds(c); len(ids) > 0 {
		said = ids[0]
	}
	return analysis.Run(a.ctx, analysis.Input{
		Blocks: core.Blocks, Ledger: core.Ledger, Exe: f, Here: core.Core.Blocks, Build: said, Limits: a.o.Limits, Unconfined: a.o.Unconfined,
	})
}

// keep tells the crash what is known better now, then stores the analysis.
func (a *Analyses) keep(c *store.StoredCore, doc *inquest.CoreAnalysis, key uint64) error {
	if doc.Report != nil && doc.Trust == inquest.TrustExact {
		if err := a.o.Crashes.learn(a.ctx, c.Crash, doc.Report); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return a.o.Store.PutCoreReport(a.ctx, c.ID, key, raw)
}

// learn adds to a crash what its core tells.
func (x *Crashes) learn(ctx context.Context, id string, r *inquest.CoreReport) error {
	c, err := x.o.Store.Crash(id)
	if err != nil {
		return err
	}
	told := c.Crash
	told.Core, told.Count, told.Text, told.Source = nil, 0, nil, []string{"core"}
	told.Class, told.Message, told.Frames = r.Class, r.Message, slices.Clone(r.Frames)
	if s := r.Signal; s != nil && told.Kind == inquest.CrashDeath {
		told.Signal = s.Number
	}
	if c.Text == nil && c.TextBytes == 0 {
		told.Text = &inquest.CrashText{Goroutines: r.Total, Buckets: slices.Clone(r.Buckets), Truncated: r.Truncated}
	}
	if err := x.check(&told, time.Time{}); err != nil {
		return nil //nolint:nilerr // it is about to be deleted by age
	}
	_, err = x.o.Store.PutCrashes(ctx, []inquest.Crash{told})
	return err
}

// Of returns what is known of the analysis of a core. ErrNotFound if there is
// no such core.
func (a *Analyses) Of(id string) (*inquest.CoreAnalysis, error) {
	c, err := a.o.Store.Core(id)
	if err != nil {
		return nil, err
	}
	if !c.Complete {
		return &inquest.CoreAnalysis{State: inquest.AnalysisWaiting, Reason: "blocks of the core are still to come"}, nil
	}
	raw, _, err := a.o.Store.CoreReport(id)
	if err == nil {
		doc := &inquest.CoreAnalysis{}
		return doc, json.Unmarshal(raw, doc)
	}
	if !errors.Is(err, inquest.ErrNotFound) {
		return nil, err
	}
	a.mu.Lock()
	off := a.off
	a.mu.Unlock()
	switch builds := a.builds(c); {
	case off != "":
		return &inquest.CoreAnalysis{State: inquest.AnalysisOff, Reason: off}, nil
	case len(builds) == 0:
		return &inquest.CoreAnalysis{State: inquest.AnalysisWaiting, Reason: "it is not known of which build the core is"}, nil
	case len(a.executables(c)) == 0:
		return &inquest.CoreAnalysis{State: inquest.AnalysisWaiting, Reason: "the executable of build " + builds[0] + " is not here"}, nil
	}
	return &inquest.CoreAnalysis{State: inquest.AnalysisQueued}, nil
}
