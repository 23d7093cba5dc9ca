package crashtext

import "sync/atomic"

// budget is memory that many share.
type budget struct {
	max  int64
	used atomic.Int64
}

// share is what one has of a budget.
type share struct {
	of   *budget
	have int64
}

// grow takes as much as is needed to have want bytes; false says that there is
// not that much.
func (s *share) grow(want int64) bool {
	if more := want - s.have; more > 0 {
		if s.of.used.Add(more) > s.of.max {
			s.of.used.Add(-more)
			return false
		}
		s.have = want
	}
	return true
}

func (s *share) release() {
	s.of.used.Add(-s.have)
	s.have = 0
}
