package store

import (
	"math"
	"time"

	"github.com/goinquest/inquest"
)

// Forever is the age of what is never deleted for its age.
const Forever = time.Duration(math.MaxInt64)

// Retention says how long rows are kept, counted from their Start, those of
// rollups from the end of their step. The zero value keeps everything.
type Retention struct {
	Raw, FiveMinutes, Hour, Day time.Duration // 0 = Forever

	// Services are exceptions: of those that match a service the exact name
	// comes first, then the first in the list.
	Services []ServiceRetention
	// Kinds shortens the age of profiles of a kind.
	Kinds map[inquest.Kind]time.Duration

	MaxBytes    int64 // of all blocks together, beyond which the oldest profiles go; 0 = no bound
	RawMaxBytes int64 // of the blocks with profiles; 0 = no bound

	// KeepFree and KeepFreePercent are how much of the disk is to stay free:
	// before there is less, the oldest profiles go, but for those younger than a
	// day unless KeepFreeAll is set. 0 = nothing goes for that. It is at least
	// twice Options.MinFreeBytes, below which writes are refused.
	KeepFree        int64
	KeepFreePercent float64
	KeepFreeAll     bool

	// BinariesUnused is how long binaries are kept that no stored data needs,
	// since they came or since data needed them; 0 = 30 days.
	BinariesUnused   time.Duration
	BinariesMaxBytes int64 // of all binaries on the disk, beyond which those go that are needed least; 0 = no bound

	// Cores, CrashTexts and Crashes are how long cores, texts and records of
	// crashes are kept, counted from the crash; 0 = 30 days, 90 days, a year.
	// Deaths are counted, by the hour, as long as records are.
	Cores, CrashTexts, Crashes time.Duration
	// CoresMaxBytes bounds all cores on the disk; 0 = 20 GiB, or a fifth of the
	// disk if that is less. Beyond it groups with the most cores lose some.
	CoresMaxBytes int64
	// CoresMore is how many cores of a group are kept beside the first, the last
	// and the largest; 0 = 3, negative: none.
	CoresMore int
}

// ServiceRetention is an exception for some services. An age of 0 is that of
// all the others.
type ServiceRetention struct {
	Match                       string // a name, or a pattern of * (any text) and ? (any character)
	Raw, FiveMinutes, Hour, Day time.Duration
}

// Validate says, with kind ErrInvalid, what of the policy cannot be.
func (r *Retention) Validate() error {
	for what, d := range map[string]time.Duration{"raw": r.Raw, "5m": r.FiveMinutes, "1h": r.Hour, "1d": r.Day} {
		if d < 0 {
			return inquest.Errorf(inquest.ErrInvalid, "retention of %s is %v: want an age", what, d)
		}
	}
	for kind, d := range r.Kinds {
		if d <= 0 {
			return inquest.Errorf(inquest.ErrInvalid, "retention of kind %s is %v: want an age", kind, d)
		}
	}
	for i := range r.Services {
		s := &r.Services[i]
		if s.Match == "" {
			return inquest.Errorf(inquest.ErrInvalid, "retention exception %d names no service", i+1)
		}
		if s.Raw < 0 || s.FiveMinutes < 0 || s.Hour < 0 || s.Day < 0 {
			return inquest.Errorf(inquest.ErrInvalid, "retention of services %s is negative: want an age", s.Match)
		}
	}
	if r.BinariesUnused < 0 || r.BinariesMaxBytes < 0 {
		return inquest.Errorf(inquest.ErrInvalid, "retention of binaries is negative: want an age and a size")
	}
	if r.Cores < 0 || r.CrashTexts < 0 || r.Crashes < 0 || r.CoresMaxBytes < 0 {
		return inquest.Errorf(inquest.ErrInvalid, "retention of crashes is negative: want ages and a size")
	}
	if r.MaxBytes < 0 || r.RawMaxBytes < 0 || r.KeepFree < 0 || r.KeepFreePercent < 0 || r.KeepFreePercent > 90 {
		return inquest.Errorf(inquest.ErrInvalid, "retention by size is negative, or keeps more than 90 %% of the disk free")
	}
	return nil
}

// rule is the exception for a service, nil if there is none.
func (r *Retention) rule(service string) *ServiceRetention {
	for i := range r.Services {
		if r.Services[i].Match == service {
			return &r.Services[i]
		}
	}
	for i := range r.Services {
		if matchPattern(r.Services[i].Match, service) {
			return &r.Services[i]
		}
	}
	return nil
}

// ages are how long rows of a service are kept, profiles being of a kind; ""
// is any.
func (r *Retention) ages(service string, kind inquest.Kind) (ages [Day + 1]time.Duration) {
	ages = [...]time.Duration{r.Raw, r.FiveMinutes, r.Hour, r.Day}
	if x := r.rule(service); x != nil {
		for i, d := range [...]time.Duration{x.Raw, x.FiveMinutes, x.Hour, x.Day} {
			if d != 0 {
				ages[i] = d
			}
		}
	}
	for i := range ages {
		if ages[i] == 0 {
			ages[i] = Forever
		}
	}
	if d, ok := r.Kinds[kind]; ok {
		ages[Raw] = min(ages[Raw], d)
	}
	return ages
}

// RawAge is how long profiles of a service and kind are kept, Forever if they
// are not deleted for their age.
func (s *Store) RawAge(service string, kind inquest.Kind) time.Duration {
	return s.reach.Load().Policy.ages(service, kind)[Raw]
}

// Hides says whether a profile that is stored now would not be seen, as all that
// began then was hidden before, under a policy that kept less.
func (s *Store) Hides(service string, kind inquest.Kind, start time.Time) bool {
	return boundNanos(start, minTime) < s.reach.Load().before(service, kind)[Raw]
}

// matchPattern says whether a pattern of * and ? takes a name. A pattern takes
// itself.
func matchPattern(pattern, name string) bool {
	star, retry := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			retry++
			p, n = star+1, retry
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// MatchService says whether a pattern of * and ?, or a name, takes a service.
func MatchService(pattern, service string) bool { return matchPattern(pattern, service) }
