package store

import (
	"context"
	"fmt"
)

// Digest is what one process did in one step, by function: of every function
// of which the stack or a callee has at least 0.05 % of a column's total, and
// one entry for the rest. The columns are the section's Types; of instants
// they hold value × hold, see HeldPerSecond.
type Digest struct {
	Name      []uint32  // by entry, ascending: index into FuncTree().Names; 0 is the rest, which is always there
	Self, Cum [][]int64 // [column][entry]; a stack counts once for a function, however often it recurs
}

// Digests calls each with the digest of every row of a section of digests. The
// digest is valid during the call. The sum of Self is the row's total, exactly;
// single values other than the rest's are rounded, see docs/format.md.
func (p *Part) Digests(ctx context.Context, section int, each func(row int, d *Digest) error) error {
	sec, err := p.section(section)
	if err != nil {
		return err
	}
	if !sec.digest {
		return fmt.Errorf("section %d of service %q has no digests", section, p.Service)
	}
	return ctx.Err()
}
