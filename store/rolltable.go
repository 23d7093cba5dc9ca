package store

// tableMaker makes tables of functions of the rows of a service: what each
// function cost itself and with all it calls, exactly. Questions for functions
// over long times need no call trees then, which are much larger and differ
// between services. Its memory is reused; all of it is zero between two uses.
type tableMaker struct {
	digester
	marks bitset
	at    []int64 // [node*columns + column]
}

// tableColumns are the columns of tables of rows with the given columns.
func tableColumns(cols [][2]string) [][2]string {
	out := make([][2]string, 0, 2*len(cols))
	for _, t := range cols {
		out = append(out, t, [2]string{cumPrefix + t[0], t[1]})
	}
	return out
}

// of says which dictionary the next rows have.
func (x *tableMaker) of(d *rollDict) { x.d, x.nodes = d, x.nodes[:0] }

// make puts the table of the samples of a row in their place, with cols columns:
// ids are names of the dictionary, ascending.
func (x *tableMaker) make(s *samples, cols int) {
	x.marks.fit(len(x.d.funcUp))
	half := cols / 2
	x.at = grown(x.at, half*len(x.d.funcUp))
	for k, n := range s.ids {
		x.marks.add(n)
		for c, vals := range s.vals[:half] {
			x.at[int(n)*half+c] += vals[k]
		}
	}
	x.climb(x.marks, x.at, half)
	for len(s.vals) < cols {
		s.vals = append(s.vals, nil)
	}
	s.ids = s.ids[:0]
	for c := range cols {
		s.vals[c] = s.vals[c][:0]
	}
	x.names.each(func(n uint32) {
		sums := x.sums[cols*int(n):][:cols]
		any := int64(0)
		for _, v := range sums {
			any |= v
		}
		if any == 0 {
			return
		}
		s.ids = append(s.ids, n)
		for c, v := range sums {
			s.vals[c] = append(s.vals[c], v)
			sums[c] = 0
		}
	})
	clear(x.names)
}
