package profile

// resolve checks the tables against each other and turns references by id
// into indexes where tables could not take id-1 for the index.
func (d *Decoder) resolve(msg []byte) error {
	p := &d.p
	if len(p.Strings) == 0 {
		return invalidAt(len(msg), "the profile has no string table")
	}
	if d.maxString >= uint64(len(p.Strings)) {
		return d.badString(d.maxString, d.maxStringAt)
	}
	for _, t := range []struct {
		ids  *ids
		what string
	}{{&d.mappings, "mapping"}, {&d.functions, "function"}, {&d.locations, "location"}} {
		if bad := t.ids.build(); bad >= 0 {
			if t.ids.sparse[bad] == 0 {
				return invalidAt(len(msg), "%s %d of the table has the id 0, which means none", t.what, bad)
			}
			return invalidAt(len(msg), "%s %d of the table has the id %d, which another one has", t.what, bad, t.ids.sparse[bad])
		}
	}
	if d.functions.dense() {
		if len(p.Lines) > 0 && d.maxFunction >= uint64(len(p.Functions)) {
			return d.badFunction(d.maxFunction+1, d.maxFunctionAt)
		}
		if d.mappings.dense() && d.maxMapping <= uint64(len(p.Mappings)) {
			return nil
		}
	}
	return d.again(msg)
}

// again reads the references of all locations once more, now that the ids of
// functions and mappings are known. The message was walked before, so it is
// well-formed.
func (d *Decoder) again(msg []byte) error {
	loc, line := 0, 0
	for i := 0; i < len(msg); {
		tag, v, next := field(msg, i)
		if tag == 4<<3|wireBytes {
			l := &d.p.Locations[loc]
			loc++
			l.Mapping = -1
			for j := next - int(v); j < next; {
				tag, v, n := field(msg[:next], j)
				switch tag {
				case 2<<3 | wireVarint:
					l.Mapping = -1
					if m, ok := d.mappings.find(v); ok {
						l.Mapping = int32(m)
					}
				case 4<<3 | wireBytes:
					if err := d.lineAgain(msg[:n], n-int(v), &d.p.Lines[line]); err != nil {
						return err
					}
					line++
				}
				j = n
			}
		}
		i = next
	}
	return nil
}

func (d *Decoder) lineAgain(b []byte, from int, l *Line) error {
	var id uint64
	for i := from; i < len(b); {
		tag, v, next := field(b, i)
		if tag == 1<<3|wireVarint {
			id = v
		}
		i = next
	}
	f, ok := d.functions.find(id)
	if !ok {
		return d.badFunction(id, from)
	}
	l.Function = f
	return nil
}

func (d *Decoder) badString(v uint64, at int) error {
	return invalidAt(at, "string %d is referred to, the table has %d strings", int64(v), len(d.p.Strings))
}

func (d *Decoder) badFunction(id uint64, at int) error {
	return invalidAt(at, "a line refers to function id %d, which the table of %d functions does not have", id, len(d.p.Functions))
}
