package query

import "context"

// Admission lets the tests admit queries that do what they like.
type Admission struct{ b *budget }

func NewAdmission(total int64, running, maxLine int) *Admission {
	return &Admission{newBudget(total, running, maxLine)}
}

// Memory is that of one query.
type Memory struct{ r *reservation }

func (m *Memory) Grow(bytes int64) error { return m.r.grow(bytes) }
func (m *Memory) Keep(bytes int64) error { return m.r.keep(bytes) }
func (m *Memory) Work(n int)             { m.r.work(n) }

func (a *Admission) Run(ctx context.Context, f func(ctx context.Context, m *Memory) error) error {
	return a.b.run(ctx, func(ctx context.Context, r *reservation) error { return f(ctx, &Memory{r}) })
}

func (a *Admission) State() Budget { return a.b.state() }

// FirstBytes is what a query begins with.
const FirstBytes = firstBytes
