package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/settings"
	"github.com/goinquest/inquest/store"
)

// retention is the section of the file that says how long what is kept.
type retention struct {
	Raw         age                `yaml:"raw"`
	FiveMinutes age                `yaml:"5m"`
	Hour        age                `yaml:"1h"`
	Day         age                `yaml:"1d"`
	Kinds       map[string]age     `yaml:"kinds"`
	Services    []serviceRetention `yaml:"services"`
	MaxBytes    size               `yaml:"max_bytes"`
	RawMaxBytes size               `yaml:"raw_max_bytes"`
	KeepFree    share              `yaml:"keep_free"`
	LastDayToo  bool               `yaml:"keep_free_last_day_too"`

	BinariesUnused   age  `yaml:"binaries_unused"`
	BinariesMaxBytes size `yaml:"binaries_max_bytes"`

	Crashes       age      `yaml:"crashes"`
	CrashTexts    age      `yaml:"crash_texts"`
	Cores         age      `yaml:"cores"`
	CoresMaxBytes size     `yaml:"cores_max_bytes"`
	CoresPerGroup perGroup `yaml:"cores_per_group"`
}

type serviceRetention struct {
	Match       string `yaml:"match"`
	Raw         age    `yaml:"raw"`
	FiveMinutes age    `yaml:"5m"`
	Hour        age    `yaml:"1h"`
	Day         age    `yaml:"1d"`
}

var defaultRetention = retention{FiveMinutes: age(60 * day), Hour: age(400 * day), Day: age(5 * 365 * day)}

const day = 24 * time.Hour

// retention is the policy as the store has it.
func (o *options) retention() store.Retention {
	k := &o.Keep
	r := store.Retention{
		Raw: o.Retention, FiveMinutes: time.Duration(k.FiveMinutes), Hour: time.Duration(k.Hour), Day: time.Duration(k.Day),
		MaxBytes: int64(k.MaxBytes), RawMaxBytes: int64(k.RawMaxBytes),
		KeepFree: k.KeepFree.bytes, KeepFreePercent: k.KeepFree.percent, KeepFreeAll: k.LastDayToo,
		BinariesUnused: time.Duration(k.BinariesUnused), BinariesMaxBytes: int64(k.BinariesMaxBytes),
		Crashes: time.Duration(k.Crashes), CrashTexts: time.Duration(k.CrashTexts), Cores: time.Duration(k.Cores),
		CoresMaxBytes: int64(k.CoresMaxBytes), CoresMore: int(k.CoresPerGroup),
	}
	for kind, a := range k.Kinds {
		if r.Kinds == nil {
			r.Kinds = map[inquest.Kind]time.Duration{}
		}
		r.Kinds[inquest.Kind(kind)] = time.Duration(a)
	}
	for _, s := range k.Services {
		r.Services = append(r.Services, store.ServiceRetention{
			Match: s.Match, Raw: time.Duration(s.Raw), FiveMinutes: time.Duration(s.FiveMinutes), Hour: time.Duration(s.Hour), Day: time.Duration(s.Day),
		})
	}
	return r
}

// age is a duration of at least a minute, or forever.
type age time.Duration

func (a *age) UnmarshalYAML(n *yaml.Node) error {
	if n.Value == "forever" {
		*a = age(store.Forever)
		return nil
	}
	d, err := settings.ParseDuration(n.Value)
	if err != nil || d < time.Minute {
		return fmt.Errorf("line %d: %q: want an age of at least 1m such as 15d, or forever", n.Line, n.Value)
	}
	*a = age(d)
	return nil
}

// perGroup is how many cores of a group are kept beside the first, the last
// and the largest; none is -1.
type perGroup int

func (g *perGroup) UnmarshalYAML(n *yaml.Node) error {
	v, err := strconv.Atoi(n.Value)
	if err != nil || v < 0 || v > 1000 {
		return fmt.Errorf("line %d: %q: want a number from 0 to 1000", n.Line, n.Value)
	}
	if *g = perGroup(v); v == 0 {
		*g = -1
	}
	return nil
}

// size is one in bytes.
type size int64

func (b *size) UnmarshalYAML(n *yaml.Node) error {
	v, err := settings.ParseSize(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q: %w", n.Line, n.Value, err)
	}
	*b = size(v)
	return nil
}

// share is a part of the disk: a size, or percents of it.
type share struct {
	bytes   int64
	percent float64
}

func (s *share) UnmarshalYAML(n *yaml.Node) error {
	text, percent := strings.CutSuffix(n.Value, "%")
	if !percent {
		v, err := settings.ParseSize(n.Value)
		if err != nil {
			return fmt.Errorf("line %d: %q: %w, or a share such as 5%%", n.Line, n.Value, err)
		}
		*s = share{bytes: v}
		return nil
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0 && v <= 90) {
		return fmt.Errorf("line %d: %q: want a share of the disk from 0%% to 90%%", n.Line, n.Value)
	}
	*s = share{percent: v}
	return nil
}
