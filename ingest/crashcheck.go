package ingest

import (
	"reflect"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// Bounds of what is told of a crash; what is beyond them is cut, if it is for
// people, else refused.
const (
	maxCrashDeaths  = 1 << 40
	maxCrashHeld    = time.Hour
	maxCrashSources = 16
	maxBuckets      = 256
	maxBucketIDs    = 16
	maxBucketFrames = 128
	maxTextFrames   = 8192 // of all buckets
	maxCoreNotes    = 64
	maxRlimits      = 32
)

// check refuses what cannot be a crash, brings its times to the collector's
// clock, and cuts texts.
func (x *Crashes) check(c *inquest.Crash, sent time.Time) error {
	if len(c.ID) != 32 || strings.Trim(c.ID, "0123456789abcdef") != "" {
		return inquest.Errorf(inquest.ErrInvalid, "id %.60q: want 32 hex digits in lower case", c.ID)
	}
	switch c.Kind {
	case inquest.CrashDeath, inquest.CrashOOM, inquest.CrashSnapshot:
	default:
		return inquest.Errorf(inquest.ErrInvalid, "kind %.40q: want %s, %s or %s", c.Kind, inquest.CrashDeath, inquest.CrashOOM, inquest.CrashSnapshot)
	}
	if c.Tier == "" {
		c.Tier = inquest.TierNone
	}
	if !c.Tier.Valid() || c.Wanted != "" && !c.Wanted.Valid() {
		return inquest.Errorf(inquest.ErrInvalid, "tier %.20q, wanted %.20q: want none, text, mini or full", c.Tier, c.Wanted)
	}
	if c.Count < 0 || c.Count > maxCrashDeaths || c.Held < 0 || c.Held > maxCrashHeld {
		return inquest.Errorf(inquest.ErrInvalid, "it stands for %d deaths and was held for %v, which cannot be", c.Count, c.Held)
	}
	if err := x.checkTimes(c, sent); err != nil {
		return err
	}
	if err := checkCrashLabels(c); err != nil {
		return err
	}
	tidyCrash(c)
	return nil
}

// checkTimes brings the times to the collector's clock.
func (x *Crashes) checkTimes(c *inquest.Crash, sent time.Time) error {
	now := x.o.Now().UTC()
	if !sent.IsZero() {
		if offset := now.Sub(sent).Round(time.Millisecond); offset.Abs() > clockTolerance {
			c.At = c.At.Add(offset)
			if !c.Started.IsZero() {
				c.Started = c.Started.Add(offset)
			}
		}
	}
	c.At, c.Started = c.At.UTC(), c.Started.UTC()
	switch kept := x.retention(); {
	case c.At.IsZero():
		return inquest.Errorf(inquest.ErrInvalid, "it has no time")
	case c.At.Before(now.Add(-kept)):
		return inquest.Errorf(inquest.ErrInvalid, "it is too old: it is of %s, and crashes are kept for %v", c.At.Format(time.RFC3339), kept)
	case c.At.After(now.Add(maxAhead)):
		return inquest.Errorf(inquest.ErrInvalid, "it is of the future: of %s, it is %s now, and clocks may be ahead by %v at most (a header %s corrects that)",
			c.At.Format(time.RFC3339), now.Format(time.RFC3339), maxAhead, inquest.HeaderSentAt)
	}
	if c.Started.After(c.At) || c.Started.Year() < 1970 {
		c.Started = time.Time{}
	}
	return nil
}

// checkCrashLabels checks what crashes are found by, as that of profiles.
func checkCrashLabels(c *inquest.Crash) error {
	if c.Service == "" {
		return inquest.Errorf(inquest.ErrInvalid, "it names no service")
	}
	for name, value := range map[string]string{
		inquest.LabelService: c.Service, inquest.LabelInstance: c.Instance, inquest.LabelRelease: c.Release, inquest.LabelBuild: c.Build,
	} {
		if value == "" {
			continue
		}
		if err := checkLabel(name, value); err != nil {
			return err
		}
	}
	if len(c.Build) > 256 {
		return inquest.Errorf(inquest.ErrInvalid, "build id %.40q: it has %d characters, 256 are the most", c.Build, len(c.Build))
	}
	if len(c.Labels) > inquest.MaxLabels {
		return inquest.Errorf(inquest.ErrInvalid, "%d labels were given, at most %d are allowed", len(c.Labels), inquest.MaxLabels)
	}
	for name, value := range c.Labels {
		if inquest.Reserved(name) {
			return inquest.Errorf(inquest.ErrInvalid, "label %q is reserved: it has a field of its own", name)
		}
		if err := checkLabel(name, value); err != nil {
			return err
		}
	}
	if len(c.Key) > 64 || strings.Trim(c.Key, "0123456789abcdef") != "" {
		return inquest.Errorf(inquest.ErrInvalid, "key %.80q: want at most 64 hex digits in lower case", c.Key)
	}
	return nil
}

// tidyCrash cuts a crash to what is kept of it.
func tidyCrash(c *inquest.Crash) {
	for _, s := range []*string{&c.Process, &c.Agent, &c.Host, &c.Exe, &c.Class, &c.Message, &c.Reason} {
		*s = clip(*s)
	}
	if c.Class == "" && c.Kind != inquest.CrashDeath {
		c.Class = c.Kind // "oom", "snapshot"
	}
	c.Source = clipAll(c.Source, maxCrashSources)
	c.Frames = tidyFrames(c.Frames, inquest.CrashFrames)
	if c.Facts != nil {
		tidyFacts(c.Facts)
	}
	if c.Text != nil {
		tidyCrashText(c.Text)
	}
	if k := c.Core; k != nil {
		for _, s := range []*string{&k.ID, &k.Crash, &k.Arch, &k.GoVersion, &k.Build, &k.GoBuildID} {
			*s = clip(*s)
		}
		k.Missing, k.Blanked = clipAll(k.Missing, maxCoreNotes), clipAll(k.Blanked, maxCoreNotes)
	}
}

func tidyFrames(frames []inquest.Frame, most int) []inquest.Frame {
	frames = frames[:min(len(frames), most)]
	for i := range frames {
		f := &frames[i]
		f.Function, f.Symbol, f.File = clip(f.Function), clip(f.Symbol), clip(f.File)
		f.Line, f.StartLine = max(f.Line, 0), max(f.StartLine, 0)
	}
	return frames
}

// tidyFacts cuts the texts among facts.
func tidyFacts(f *inquest.Facts) {
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if s := v.Field(i); s.Kind() == reflect.String {
			s.SetString(clip(s.String()))
		}
	}
	f.Rlimits = clipMap(f.Rlimits, maxRlimits)
}

func tidyCrashText(t *inquest.CrashText) {
	t.Bytes, t.Kept, t.Goroutines = max(t.Bytes, 0), max(t.Kept, 0), max(t.Goroutines, 0)
	left := maxTextFrames
	for i := range t.Buckets {
		b := &t.Buckets[i]
		if i == maxBuckets || left <= 0 {
			t.Buckets, t.Truncated = t.Buckets[:i:i], true
			break
		}
		b.State = clip(b.State)
		b.IDs = b.IDs[:min(len(b.IDs), maxBucketIDs)]
		if len(b.Frames) > maxBucketFrames {
			b.Cut = true
		}
		b.Frames = tidyFrames(b.Frames, maxBucketFrames)
		left -= len(b.Frames)
		if b.By != nil {
			by := tidyFrames([]inquest.Frame{*b.By}, 1)[0]
			b.By = &by
		}
	}
}
