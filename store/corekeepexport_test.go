package store

// KeptCore is a core as the policy of keeping looks at it.
type KeptCore struct {
	ID, Group string
	At, Bytes int64
	Pinned    bool
}

// PlanCores says which cores go under a policy, and whether for want of space.
func PlanCores(cores []KeptCore, oldest int64, more int, most int64) map[string]bool {
	in := make([]keptCore, len(cores))
	for i, c := range cores {
		in[i] = keptCore{c.ID, c.Group, c.At, c.Bytes, c.Pinned}
	}
	out := map[string]bool{}
	for _, d := range (&corePolicy{oldest, more, most}).plan(in) {
		out[d.id] = d.space
	}
	return out
}

// CrashBounds makes the bounds on crashes small.
func CrashBounds(records, ofGroup, groups int) func(*Options) {
	return func(o *Options) { o.crashes = crashBounds{records, ofGroup, groups, 1 << 20} }
}
