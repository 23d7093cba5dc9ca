package store

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// maxSources bounds who is noted to have told a crash.
const maxSources = 16

// mergeCrash is a record with what is told of the same crash once more. What
// is known stays, what was not is filled in; telling the same twice changes
// nothing.
func mergeCrash(old *StoredCrash, told *inquest.Crash) *StoredCrash {
	c := *old
	fillIn(&c.Service, told.Service)
	fillIn(&c.Instance, told.Instance)
	fillIn(&c.Release, told.Release)
	fillIn(&c.Process, told.Process)
	fillIn(&c.Build, told.Build)
	fillIn(&c.Agent, told.Agent)
	fillIn(&c.Host, told.Host)
	fillIn(&c.PID, told.PID)
	fillIn(&c.Exe, told.Exe)
	fillIn(&c.UID, told.UID)
	fillIn(&c.Signal, told.Signal)
	fillIn(&c.Key, told.Key)
	if c.Started.IsZero() {
		c.Started = told.Started
	}
	c.Labels = mergeLabels(old.Labels, told.Labels)
	mergeClass(&c.Crash, told)
	if len(c.Frames) == 0 {
		c.Frames = told.Frames
	}
	c.Wanted = higher(c.Wanted, told.Wanted)
	if t := higher(c.Tier, told.Tier); t != c.Tier && c.CoreGone == "" {
		c.Tier, c.Reason = t, told.Reason
	}
	fillIn(&c.Reason, told.Reason)
	c.Held = max(c.Held, told.Held)
	c.Count = max(c.Count, told.Count)
	for _, s := range told.Source {
		if !slices.Contains(c.Source, s) && len(c.Source) < maxSources {
			c.Source = append(slices.Clip(c.Source), s)
		}
	}
	c.Facts = mergeFacts(old.Facts, told.Facts)
	if told.Text != nil && (c.Text == nil || told.Text.Kept > c.Text.Kept) {
		c.Text = told.Text
	}
	if told.Core != nil && c.CoreGone == "" && (c.Core == nil || !c.Core.Complete && c.Core.ID != told.Core.ID) {
		core := *told.Core
		core.Complete = false
		c.Core = &core
	}
	return &c
}

// vague says that a class does not say what it was.
func vague(class string) bool { return class == "" || class == inquest.ClassUnknown }

// mergeClass takes the class that says more, with what belongs to it. A signal
// is what ended the process; what the runtime says of it says why.
func mergeClass(c, told *inquest.Crash) {
	plain := strings.HasPrefix(c.Class, "signal:") && c.Message == "" && told.Message != ""
	short := c.Class != "" && strings.HasPrefix(told.Class, c.Class+":") // "panic", before its value was known
	if vague(c.Class) && !vague(told.Class) || c.Class == "" && told.Class != "" || (plain || short) && !vague(told.Class) {
		c.Class, c.Message = told.Class, cmp.Or(told.Message, c.Message)
		if c.Kind != inquest.CrashSnapshot {
			c.Kind = cmp.Or(told.Kind, c.Kind)
		}
		if len(told.Frames) > 0 {
			c.Frames = told.Frames
		}
	}
	fillIn(&c.Kind, told.Kind)
	fillIn(&c.Message, told.Message)
}

func fillIn[T comparable](v *T, told T) {
	var zero T
	if *v == zero {
		*v = told
	}
}

// higher is the higher of two tiers.
func higher(a, b inquest.Tier) inquest.Tier {
	if !b.Valid() || a.Valid() && b.Min(a) == b {
		return a
	}
	return b
}

func mergeLabels(have, told map[string]string) map[string]string {
	if len(told) == 0 {
		return have
	}
	out := make(map[string]string, len(have)+len(told))
	for k, v := range told {
		out[k] = v
	}
	for k, v := range have {
		out[k] = v
	}
	for k := range told { // keep within what a target may have
		if _, ok := have[k]; !ok && len(out) > inquest.MaxLabels {
			delete(out, k)
		}
	}
	return out
}

// mergeFacts fills in facts that are not known.
func mergeFacts(have, told *inquest.Facts) *inquest.Facts {
	if have == nil || told == nil {
		return cmp.Or(have, told)
	}
	out := *have
	to, from := reflect.ValueOf(&out).Elem(), reflect.ValueOf(told).Elem()
	for i := range to.NumField() {
		if to.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return &out
}
