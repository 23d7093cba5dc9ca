package query

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

// maxQueryBytes bounds a selector's text.
const maxQueryBytes = 16 << 10

const selectorExample = `want label matchers such as {service="checkout", instance=~"10\\..*"}`

// selector is a conjunction of label matchers; without any it selects all.
//
// A matcher is asked of the profile's label set; if that does not have the
// name, of the labels of each sample. A label that is nowhere counts as empty.
type selector []*labels.Matcher

// parseSelector reads a Prometheus selector. Errors are of kind ErrInvalid and
// name the position.
func parseSelector(query string) (selector, error) {
	text := strings.TrimSpace(query)
	if text == "" || text == "{}" {
		return nil, nil
	}
	if len(query) > maxQueryBytes {
		return nil, inquest.Errorf(inquest.ErrInvalid, "query has %d bytes, at most %d are allowed", len(query), maxQueryBytes)
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(query)
	var all parser.ParseErrors
	switch {
	case errors.As(err, &all) && len(all) > 0:
		at := int(all[0].PositionRange.Start) + 1
		return nil, inquest.Errorf(inquest.ErrInvalid, "query %.200q: at character %d: %w; %s", query, at, all[0].Err, selectorExample)
	case err != nil:
		return nil, inquest.Errorf(inquest.ErrInvalid, "query %.200q: %w; %s", query, err, selectorExample)
	}
	for _, m := range ms {
		if m.Name == model.MetricNameLabel {
			return nil, inquest.Errorf(inquest.ErrInvalid, "query %.200q: at character 1: %q stands where only matchers in braces can; to select a service write {service=%q}", query, m.Value, m.Value)
		}
	}
	return ms, nil
}

// with is s and matchers on release and build, as far as a request has them.
func (s selector) with(r *Request) selector {
	s = slices.Clip(s)
	if r.Release != "" {
		s = append(s, &labels.Matcher{Type: labels.MatchEqual, Name: inquest.LabelRelease, Value: r.Release})
	}
	if r.build != nil {
		s = append(s, &labels.Matcher{Type: labels.MatchEqual, Name: inquest.LabelBuild, Value: *r.build})
	}
	return s
}

// services are those that the matchers on the service let through.
func (s selector) services() store.Services {
	var on selector
	for _, m := range s {
		if m.Name != inquest.LabelService {
			continue
		}
		if m.Type == labels.MatchEqual {
			return store.Services{Names: []string{m.Value}} // the others are asked per profile
		}
		if names := m.SetMatches(); m.Type == labels.MatchRegexp && len(names) > 0 {
			return store.Services{Names: names}
		}
		on = append(on, m)
	}
	if on == nil {
		return store.Services{}
	}
	return store.Services{Match: func(name string) bool {
		for _, m := range on {
			if !m.Matches(name) {
				return false
			}
		}
		return true
	}}
}

// match asks the matchers of a profile's label set, whose release has been
// resolved. open holds those that only the samples can answer.
func (s selector) match(set inquest.Labels) (ok bool, open selector) {
	for _, m := range s {
		value := set.Get(m.Name)
		if value == "" && !inquest.Reserved(m.Name) {
			open = append(open, m)
			continue
		}
		if !m.Matches(value) {
			return false, nil
		}
	}
	return true, open
}

// key names the set of matchers.
func (s selector) key() string {
	var b strings.Builder
	for _, m := range s {
		b.WriteString(m.String())
		b.WriteByte(0)
	}
	return b.String()
}

// withoutAbsent answers the matchers on labels that no sample has.
func (s selector) withoutAbsent(names map[string]bool) (ok bool, open selector) {
	for _, m := range s {
		if names[m.Name] {
			open = append(open, m)
		} else if !m.Matches("") {
			return false, nil
		}
	}
	return true, open
}

// keep asks the matchers of a sample's labels. Where a sample has a label more
// than once, an equality holds if it holds for one of the values, and an
// inequality if it holds for all of them.
func (s selector) keep(ls []store.SampleLabel) bool {
	for _, m := range s {
		positive := m.Type == labels.MatchEqual || m.Type == labels.MatchRegexp
		found, holds := false, !positive
		for _, l := range ls {
			if l.Key != m.Name {
				continue
			}
			found = true
			if m.Matches(sampleValue(l)) == positive {
				holds = positive
			}
		}
		if !found {
			holds = m.Matches("")
		}
		if !holds {
			return false
		}
	}
	return true
}

// sampleValue spells the value of a sample's label; numbers in decimal.
func sampleValue(l store.SampleLabel) string {
	if l.Str != "" {
		return l.Str
	}
	return strconv.FormatInt(l.Num, 10)
}
