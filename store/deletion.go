package store

// cut is rows of a block that are deleted and wait to be taken out.
type cut struct {
	deletion uint64
	service  string // "": of every one
	Span
}

func (p *plan) uncut(spans []Span, b viewBlock, service string, r Resolution) []Span { return spans }
