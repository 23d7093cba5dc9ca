package profile

import "github.com/goinquest/inquest"

// allSamples decodes the samples that tables has found.
func (d *Decoder) allSamples(msg []byte) error {
	p := &d.p
	n := len(d.samples)
	if n == 0 {
		return nil
	}
	if d.values == 0 {
		return invalidAt(int(d.samples[0].from), "there are samples, but no sample types")
	}
	var ok1, ok2, ok3 bool
	p.StackEnds, ok1 = grow(d, p.StackEnds, n)
	p.LabelEnds, ok2 = grow(d, p.LabelEnds, n)
	p.Values, ok3 = grow(d, p.Values, n*d.values)
	if !ok1 || !ok2 || !ok3 {
		return d.tooLarge()
	}
	for _, s := range d.samples {
		if err := d.sample(msg[:s.to], int(s.from)); err != nil {
			return err
		}
	}
	return nil
}

// sample decodes one sample, the message's bytes b[from:].
func (d *Decoder) sample(b []byte, from int) error {
	p := &d.p
	stack, values := len(p.Stacks), len(p.Values)
	for i := from; i < len(b); {
		tag, v, next := field(b, i)
		if next < 0 {
			return fieldError(b, i, "sample")
		}
		var err error
		switch tag {
		case 1<<3 | wireBytes:
			err = d.locationIDs(b[:next], next-int(v), stack)
		case 2<<3 | wireBytes:
			err = d.sampleValues(b[:next], next-int(v), values)
		case 3<<3 | wireBytes:
			err = d.label(b[:next], next-int(v))
		case 1<<3 | wireVarint:
			err = d.locationID(v, i, stack)
		case 2<<3 | wireVarint:
			err = d.sampleValue(v, i, values)
		default:
			err = unexpected(sampleFields, tag, i, "sample")
		}
		if err != nil {
			return err
		}
		i = next
	}
	if got := len(p.Values) - values; got != d.values {
		return invalidAt(from, "a sample has %d values, there are %d sample types", got, d.values)
	}
	p.StackEnds = append(p.StackEnds, uint32(len(p.Stacks)))
	p.LabelEnds = append(p.LabelEnds, uint32(len(p.Labels)))
	return nil
}

// locationIDs decodes the packed ids b[from:] of a stack that began at index
// stack of p.Stacks.
func (d *Decoder) locationIDs(b []byte, from, stack int) error {
	p := &d.p
	// No more ids than bytes.
	out, ok := grow(d, p.Stacks, len(b)-from)
	if !ok {
		return d.tooLarge()
	}
	n := uint64(len(p.Locations))
	dense := d.locations.dense()
	for i := from; i < len(b); {
		at := i
		id := uint64(b[i])
		if id < 0x80 {
			i++
		} else if i+1 < len(b) && b[i+1] < 0x80 {
			id = id&0x7f | uint64(b[i+1])<<7
			i += 2
		} else if id, i = longVarint(b, i); i < 0 {
			return invalidAt(at, "sample: malformed number among the location ids")
		}
		index := id - 1
		if !dense {
			f, ok := d.locations.find(id)
			if index = uint64(f); !ok {
				index = n
			}
		}
		if index >= n {
			return d.badLocation(id, at)
		}
		out = append(out, uint32(index))
	}
	p.Stacks = out
	if len(out)-stack > d.lim.MaxStackDepth {
		return d.tooDeep()
	}
	return nil
}

// locationID adds one id that is not packed.
func (d *Decoder) locationID(id uint64, at, stack int) error {
	index, ok := d.locations.find(id)
	if !ok {
		return d.badLocation(id, at)
	}
	if len(d.p.Stacks)-stack >= d.lim.MaxStackDepth {
		return d.tooDeep()
	}
	if !room(d, &d.p.Stacks) {
		return d.tooLarge()
	}
	d.p.Stacks = append(d.p.Stacks, index)
	return nil
}

func (d *Decoder) badLocation(id uint64, at int) error {
	return invalidAt(at, "a sample refers to location id %d, which the table of %d locations does not have", id, len(d.p.Locations))
}

func (d *Decoder) tooDeep() error {
	return inquest.Errorf(inquest.ErrTooLarge, "sample %d has a stack of more than %d locations, the limit", len(d.p.StackEnds), d.lim.MaxStackDepth)
}

// sampleValues decodes the packed values b[from:] of the sample whose values
// begin at index first of p.Values.
func (d *Decoder) sampleValues(b []byte, from, first int) error {
	p := &d.p
	out := p.Values
	for i := from; i < len(b); {
		v, next := uint64(b[i]), i+1
		if v >= 0x80 {
			if v, next = longVarint(b, i); next < 0 {
				return invalidAt(i, "sample: malformed number among the values")
			}
		}
		if len(out)-first == d.values {
			return d.tooManyValues(i)
		}
		out = append(out, int64(v))
		i = next
	}
	p.Values = out
	return nil
}

// sampleValue adds one value; allSamples has made room for as many as there
// are sample types.
func (d *Decoder) sampleValue(v uint64, at, first int) error {
	if len(d.p.Values)-first == d.values {
		return d.tooManyValues(at)
	}
	d.p.Values = append(d.p.Values, int64(v))
	return nil
}

func (d *Decoder) tooManyValues(at int) error {
	return invalidAt(at, "a sample has more values than the %d sample types", d.values)
}

// label decodes one label. One that has neither text, number nor unit says
// nothing and is left out, as google/pprof does.
func (d *Decoder) label(b []byte, from int) error {
	var v [11]uint64
	if err := numbers(&v, b, from, labelFields, "label"); err != nil {
		return err
	}
	key, str, num, unit := v[1], v[2], v[3], v[4]
	if str != 0 {
		num, unit = 0, 0
	}
	for _, s := range [...]uint64{key, str, unit} {
		if s >= uint64(len(d.p.Strings)) {
			return d.badString(s, from)
		}
	}
	if str == 0 && num == 0 && unit == 0 {
		return nil
	}
	if !room(d, &d.p.Labels) {
		return d.tooLarge()
	}
	d.p.Labels = append(d.p.Labels, Label{Key: uint32(key), Str: uint32(str), Num: int64(num), NumUnit: uint32(unit)})
	return nil
}
