package debug

import (
	"strconv"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/sandbox"
)

// Address is one of the process; in JSON a string like "0xc000012345", as
// other programs lose bits of large numbers.
type Address uint64

// MarshalText implements encoding.TextMarshaler.
func (a Address) MarshalText() ([]byte, error) {
	return append([]byte("0x"), strconv.FormatUint(uint64(a), 16)...), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Address) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 0, 64)
	if err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "address %q: %w", b, err)
	}
	*a = Address(n)
	return nil
}

// What a child says is not believed to be harmless: strings become valid UTF-8
// without control characters, and none is longer than this.
const (
	maxText  = 4 << 10
	maxValue = 64 << 10
	maxDepth = 12 // of variables in variables
)

func clean(s string) string { return sandbox.Clean(s, maxText) }

func (i *Info) clean() {
	i.GoVersion, i.Build, i.Delve, i.Warning = clean(i.GoVersion), clean(i.Build), clean(i.Delve), clean(i.Warning)
	if i.Trust != inquest.TrustExact {
		i.Trust = inquest.TrustNone
	}
	for n := range i.Threads {
		i.Threads[n].Frame.clean()
	}
}

func (p *goroutinePage) clean() {
	if len(p.Goroutines) > PageGoroutines {
		p.Goroutines = p.Goroutines[:PageGoroutines]
	}
	for i := range p.Goroutines {
		g := &p.Goroutines[i]
		g.State, g.Problem = clean(g.State), clean(g.Problem)
		for _, f := range []*Frame{&g.At, &g.Started, &g.By} {
			f.clean()
		}
		labels := g.Labels
		g.Labels = nil
		for k, v := range labels {
			if g.Labels == nil {
				g.Labels = map[string]string{}
			}
			g.Labels[clean(k)] = clean(v)
		}
	}
}

func (f *Frame) clean() {
	f.Function, f.Symbol, f.File, f.Problem = clean(f.Function), clean(f.Symbol), clean(f.File), clean(f.Problem)
}

func cleanAll(list []Variable) {
	for i := range list {
		list[i].clean(0)
	}
}

func (v *Variable) clean(depth int) {
	v.Name, v.Type, v.Kind, v.More, v.Problem = clean(v.Name), clean(v.Type), clean(v.Kind), clean(v.More), clean(v.Problem)
	v.Value = sandbox.Clean(v.Value, maxValue)
	if depth >= maxDepth && len(v.Children) > 0 {
		v.Children, v.Cut = nil, true
	}
	for i := range v.Children {
		v.Children[i].clean(depth + 1)
	}
}
