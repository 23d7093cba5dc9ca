package ingest

import (
	"strings"
	"unicode/utf8"

	"github.com/goinquest/inquest"
)

const (
	maxTextBytes     = 1024 // any text of a report
	maxTargetScrapes = 16
	maxBuildSettings = 64
	maxRefuses       = 16
	maxWatched       = 256
)

// tidy cuts a report to what is kept of it and returns how many targets were
// left out.
func tidy(r *inquest.AgentReport) (omitted int) {
	r.Host, r.Version = clip(r.Host), clip(r.Version)
	r.Spool.LastError = clip(r.Spool.LastError)
	r.Upload.Build, r.Upload.LastError = clip(r.Upload.Build), clip(r.Upload.LastError)
	r.Capture.Mode, r.Capture.Problem, r.Capture.Error = clip(r.Capture.Mode), clip(r.Capture.Problem), clip(r.Capture.Error)
	r.Capture.Watched = clipAll(r.Capture.Watched, maxWatched)
	r.Refuses = r.Refuses[:min(len(r.Refuses), maxRefuses)]
	for i := range r.Refuses {
		r.Refuses[i] = clip(r.Refuses[i])
	}
	if omitted = len(r.Targets) - maxAgentTargets; omitted > 0 {
		r.Targets = r.Targets[:maxAgentTargets:maxAgentTargets]
	}
	for i := range r.Targets {
		tidyTarget(&r.Targets[i])
	}
	if r.Targets == nil {
		r.Targets = []inquest.Target{} // a list in JSON
	}
	r.Builds = r.Builds[:min(len(r.Builds), maxAgentBuilds)]
	for i := range r.Builds {
		tidyBuild(&r.Builds[i])
	}
	return max(omitted, 0)
}

func tidyTarget(t *inquest.Target) {
	for _, s := range []*string{
		&t.ID, &t.Service, &t.Instance, &t.Release, &t.Build, &t.Process, &t.URL, &t.Source, &t.State, &t.Reason,
	} {
		*s = clip(*s)
	}
	t.Labels = clipMap(t.Labels, inquest.MaxLabels)
	t.Scrapes = t.Scrapes[:min(len(t.Scrapes), maxTargetScrapes)]
	for i := range t.Scrapes {
		t.Scrapes[i].Kind = inquest.Kind(clip(string(t.Scrapes[i].Kind)))
		t.Scrapes[i].Error = clip(t.Scrapes[i].Error)
	}
}

func tidyBuild(b *inquest.Build) {
	for _, s := range []*string{
		&b.ID, &b.GoBuildID, &b.GoVersion, &b.Path, &b.Module, &b.Version, &b.Revision, &b.Time,
	} {
		*s = clip(*s)
	}
	b.Settings = clipMap(b.Settings, maxBuildSettings)
}

// clip makes a text valid UTF-8 of at most maxTextBytes. What is cut is a copy,
// so that it does not keep a long one alive.
func clip(s string) string {
	if len(s) > maxTextBytes {
		n := maxTextBytes - len("…")
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// clipAll keeps the first n texts, clipped.
func clipAll(list []string, n int) []string {
	list = list[:min(len(list), n)]
	for i := range list {
		list[i] = clip(list[i])
	}
	return list
}

// clipMap keeps at most n entries, clipped; a map that has more loses its
// last ones by name.
func clipMap(m map[string]string, n int) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, min(len(m), n))
	for i, l := range inquest.NewLabels(m) {
		if i == n {
			break
		}
		out[clip(l.Name)] = clip(l.Value)
	}
	return out
}
