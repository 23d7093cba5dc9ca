package settings

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// String defines a setting that is a text.
func (s *Set) String(p *string, name, def, usage string) *Setting {
	*p = def
	return s.Var((*text)(p), name, usage)
}

// Bool defines a setting that is true or false.
func (s *Set) Bool(p *bool, name string, def bool, usage string) *Setting {
	*p = def
	return s.Var((*boolean)(p), name, usage)
}

// Int defines a setting that is a whole number between low and high.
func (s *Set) Int(p *int, name string, def, low, high int, usage string) *Setting {
	*p = def
	return s.Var(&number{p, low, high}, name, usage)
}

// Duration defines a setting that is a duration not below low, written as in
// Go or with days: "90s", "1h30m", "15d".
func (s *Set) Duration(p *time.Duration, name string, def, low time.Duration, usage string) *Setting {
	*p = def
	return s.Var(&duration{p, low}, name, usage)
}

// Size defines a setting that is a number of bytes not below low, written
// with a unit: "512MB", "1GiB".
func (s *Set) Size(p *int64, name string, def, low int64, usage string) *Setting {
	*p = def
	return s.Var(&size{p, low}, name, usage)
}

// Choice defines a setting that is one of several words.
func (s *Set) Choice(p *string, name, def string, choices []string, usage string) *Setting {
	*p = def
	st := s.Var(&choice{p, choices}, name, usage)
	st.Choices = choices
	return st
}

// List defines a setting that holds several texts: separated by commas, or
// the flag repeated, or a sequence in the file.
func (s *Set) List(p *[]string, name, usage string) *Setting {
	return s.Var(&list{p}, name, usage)
}

type text string

func (v *text) String() string { return string(*v) }
func (v *text) Set(t string) error {
	*v = text(t)
	return nil
}

type boolean bool

func (v *boolean) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *boolean) IsBoolFlag() bool { return true }
func (v *boolean) Set(t string) error {
	b, err := strconv.ParseBool(t)
	if err != nil {
		return errors.New("want true or false")
	}
	*v = boolean(b)
	return nil
}

type number struct {
	p         *int
	low, high int
}

func (v *number) String() string { return strconv.Itoa(*v.p) }
func (v *number) Set(t string) error {
	n, err := strconv.Atoi(t)
	if err != nil || n < v.low || n > v.high {
		return fmt.Errorf("want a whole number from %d to %d", v.low, v.high)
	}
	*v.p = n
	return nil
}

type duration struct {
	p   *time.Duration
	low time.Duration
}

func (v *duration) String() string { return FormatDuration(*v.p) }
func (v *duration) Set(t string) error {
	d, err := ParseDuration(t)
	if err != nil {
		return err
	}
	if d < v.low {
		return fmt.Errorf("want at least %s", FormatDuration(v.low))
	}
	*v.p = d
	return nil
}

type size struct {
	p   *int64
	low int64
}

func (v *size) String() string { return FormatSize(*v.p) }
func (v *size) Set(t string) error {
	n, err := ParseSize(t)
	if err != nil {
		return err
	}
	if n < v.low {
		return fmt.Errorf("want at least %s", FormatSize(v.low))
	}
	*v.p = n
	return nil
}

type choice struct {
	p       *string
	choices []string
}

func (v *choice) String() string { return *v.p }
func (v *choice) Set(t string) error {
	for _, c := range v.choices {
		if t == c {
			*v.p = t
			return nil
		}
	}
	return fmt.Errorf("want one of %s", strings.Join(v.choices, ", "))
}

type list struct{ p *[]string }

func (v *list) String() string { return strings.Join(*v.p, ",") }
func (v *list) reset()         { *v.p = nil }
func (v *list) Set(t string) error {
	for item := range strings.SplitSeq(t, ",") {
		if item = strings.TrimSpace(item); item != "" {
			*v.p = append(*v.p, item)
		}
	}
	return nil
}

var _ = []flag.Value{(*text)(nil), (*boolean)(nil), (*number)(nil), (*duration)(nil), (*size)(nil), (*choice)(nil), (*list)(nil)}

const day = 24 * time.Hour

// ParseDuration reads a duration as time.ParseDuration does, and days before
// the rest: "15d", "1d12h", "0.5d".
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("want a duration such as 90s, 1h30m or 15d")
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, bad
		}
		return d, nil
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || math.IsNaN(n) || math.Abs(n) > 36500 {
		return 0, bad
	}
	d := time.Duration(n * float64(day))
	if rest != "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 {
			return 0, bad
		}
		if n < 0 {
			more = -more
		}
		d += more
	}
	return d, nil
}

// Ago spells a time by its distance to now, in one or two units: "3h20m ago";
// "-" for no time.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		d = d.Round(time.Second)
	case d < 24*time.Hour:
		d = d.Round(time.Minute)
	default:
		d = d.Round(24 * time.Hour)
	}
	return FormatDuration(d) + " ago"
}

// FormatDuration spells a duration so that ParseDuration reads it back,
// without zero parts: "15d", "1h30m", "20ms".
func FormatDuration(d time.Duration) string {
	if d < 0 {
		return "-" + FormatDuration(-d)
	}
	var b strings.Builder
	if n := d / day; n > 0 {
		fmt.Fprintf(&b, "%dd", n)
		if d %= day; d == 0 {
			return b.String()
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	b.WriteString(s)
	return b.String()
}

// units of a size; those that divide more finely come after the coarser ones
// of the same system, so that FormatSize finds the coarsest that fits.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// ParseSize reads a number of bytes with a unit: B, KB, MB, GB, TB (powers of
// 1000) or KiB, MiB, GiB, TiB (powers of 1024), in any case; a bare number is
// bytes.
func ParseSize(s string) (int64, error) {
	bad := fmt.Errorf("want a size such as 512MB or 1GiB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)")
	i := strings.LastIndexAny(s, "0123456789.")
	if i < 0 {
		return 0, bad
	}
	unit, factor := strings.TrimSpace(s[i+1:]), int64(0)
	if unit == "" {
		factor = 1
	}
	for _, u := range units {
		if strings.EqualFold(unit, u.name) {
			factor = u.bytes
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s[:i+1]), 64)
	if err != nil || factor == 0 || n < 0 || n*float64(factor) >= math.MaxInt64 {
		return 0, bad
	}
	return int64(n * float64(factor)), nil
}

// FormatSize spells a number of bytes so that ParseSize reads it back
// exactly.
func FormatSize(n int64) string {
	if n == 0 {
		return "0B"
	}
	for _, u := range units {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// SizeText spells a number of bytes for people, rounded: "12.3 MB".
func SizeText(n int64) string {
	v, unit := float64(n), "B"
	for _, u := range []string{"KB", "MB", "GB", "TB"} {
		if v < 1000 {
			break
		}
		v, unit = v/1000, u
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
