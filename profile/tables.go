package profile

import "github.com/goinquest/inquest"

// tables decodes everything of the message but its samples, of which it notes
// where they are. References are taken to be id-1 until resolve.
func (d *Decoder) tables(msg []byte) error {
	p := &d.p
	d.samples = d.samples[:0]
	d.locations.reset(d.key)
	d.functions.reset(d.key)
	d.mappings.reset(d.key)
	d.maxString, d.maxStringAt, d.maxFunction, d.maxFunctionAt, d.maxMapping = 0, 0, 0, 0, 0
	for i := 0; i < len(msg); {
		tag, v, next := field(msg, i)
		if next < 0 {
			return fieldError(msg, i, "profile")
		}
		var err error
		body, from := msg[:next], next-int(v) // of a wireBytes field
		switch tag {
		case 6<<3 | wireBytes:
			if !room(d, &p.Strings) {
				return d.tooLarge()
			}
			p.Strings = append(p.Strings, msg[from:next:next])
			if len(p.Strings) == 1 && v != 0 {
				return invalidAt(from, "the first string must be empty")
			}
		case 2<<3 | wireBytes:
			if len(d.samples) == d.lim.MaxSamples {
				return inquest.Errorf(inquest.ErrTooLarge, "profile has more than %d samples, the limit", d.lim.MaxSamples)
			}
			if !room(d, &d.samples) {
				return d.tooLarge()
			}
			d.samples = append(d.samples, span{int32(from), int32(next)})
		case 4<<3 | wireBytes:
			err = d.location(body, from)
		case 5<<3 | wireBytes:
			err = d.function(body, from)
		case 3<<3 | wireBytes:
			err = d.mapping(body, from)
		case 1<<3 | wireBytes:
			if len(p.SampleTypes) == maxSampleTypes {
				return inquest.Errorf(inquest.ErrTooLarge, "profile has more than %d sample types, the limit", maxSampleTypes)
			}
			if !room(d, &p.SampleTypes) {
				return d.tooLarge()
			}
			p.SampleTypes = append(p.SampleTypes, ValueType{})
			err = d.valueType(body, from, &p.SampleTypes[len(p.SampleTypes)-1])
		default:
			err = d.header(msg, i, tag, v, next)
		}
		if err != nil {
			return err
		}
		i = next
	}
	d.values = len(p.SampleTypes)
	return nil
}

// header decodes the fields that every profile has at most once, and its
// comments.
func (d *Decoder) header(msg []byte, at int, tag, v uint64, next int) error {
	p := &d.p
	switch tag {
	case 7<<3 | wireVarint:
		p.DropFrames = d.str(v, at)
	case 8<<3 | wireVarint:
		p.KeepFrames = d.str(v, at)
	case 9<<3 | wireVarint:
		if p.TimeNanos != 0 {
			return invalidAt(at, "a second time_nanos: these are several profiles, one behind the other; send them one by one")
		}
		p.TimeNanos = int64(v)
	case 10<<3 | wireVarint:
		p.DurationNanos = int64(v)
	case 11<<3 | wireBytes:
		p.PeriodType = ValueType{}
		return d.valueType(msg[:next], next-int(v), &p.PeriodType)
	case 12<<3 | wireVarint:
		p.Period = int64(v)
	case 13<<3 | wireVarint:
		return d.comment(v, at)
	case 13<<3 | wireBytes:
		for i := next - int(v); i < next; {
			c, n := varint(msg[:next], i)
			if n < 0 {
				return invalidAt(i, "profile: malformed number among the comments")
			}
			if err := d.comment(c, i); err != nil {
				return err
			}
			i = n
		}
	case 14<<3 | wireVarint:
		p.DefaultSampleType = d.str(v, at)
	case 15<<3 | wireVarint:
		p.DocURL = d.str(v, at)
	default:
		return unexpected(profileFields, tag, at, "profile")
	}
	return nil
}

func (d *Decoder) comment(v uint64, at int) error {
	if !room(d, &d.p.Comments) {
		return d.tooLarge()
	}
	d.p.Comments = append(d.p.Comments, d.str(v, at))
	return nil
}

// str notes that string v was referred to at a byte of the message.
func (d *Decoder) str(v uint64, at int) uint32 {
	if v > d.maxString {
		d.maxString, d.maxStringAt = v, at
	}
	return uint32(v)
}

func (d *Decoder) valueType(b []byte, from int, vt *ValueType) error {
	var v [11]uint64
	if err := numbers(&v, b, from, valueTypeFields, "value type"); err != nil {
		return err
	}
	vt.Type, vt.Unit = d.str(v[1], from), d.str(v[2], from)
	return nil
}

func (d *Decoder) function(b []byte, from int) error {
	var v [11]uint64
	if err := numbers(&v, b, from, functionFields, "function"); err != nil {
		return err
	}
	if !room(d, &d.p.Functions) {
		return d.tooLarge()
	}
	d.functions.add(v[1])
	d.p.Functions = append(d.p.Functions, Function{
		Name: d.str(v[2], from), SystemName: d.str(v[3], from), Filename: d.str(v[4], from), StartLine: int64(v[5]),
	})
	return nil
}

func (d *Decoder) mapping(b []byte, from int) error {
	var v [11]uint64
	if err := numbers(&v, b, from, mappingFields, "mapping"); err != nil {
		return err
	}
	if !room(d, &d.p.Mappings) {
		return d.tooLarge()
	}
	d.mappings.add(v[1])
	d.p.Mappings = append(d.p.Mappings, Mapping{
		Start: v[2], Limit: v[3], Offset: v[4], File: d.str(v[5], from), BuildID: d.str(v[6], from),
		HasFunctions: v[7] != 0, HasFilenames: v[8] != 0, HasLineNumbers: v[9] != 0, HasInlineFrames: v[10] != 0,
	})
	return nil
}

func (d *Decoder) location(b []byte, from int) error {
	p := &d.p
	l := Location{Mapping: -1, LineStart: uint32(len(p.Lines))}
	var id, mapping uint64
	for i := from; i < len(b); {
		tag, v, next := field(b, i)
		if next < 0 {
			return fieldError(b, i, "location")
		}
		switch tag {
		case 1<<3 | wireVarint:
			id = v
		case 2<<3 | wireVarint:
			mapping = v
		case 3<<3 | wireVarint:
			l.Address = v
		case 4<<3 | wireBytes:
			if err := d.line(b[:next], next-int(v)); err != nil {
				return err
			}
		case 5<<3 | wireVarint:
			l.IsFolded = v != 0
		default:
			if err := unexpected(locationFields, tag, i, "location"); err != nil {
				return err
			}
		}
		i = next
	}
	if !room(d, &p.Locations) {
		return d.tooLarge()
	}
	l.LineEnd = uint32(len(p.Lines))
	if mapping != 0 {
		d.maxMapping = max(d.maxMapping, mapping)
		l.Mapping = int32(mapping - 1) // resolve looks again if it does not fit
	}
	d.locations.add(id)
	p.Locations = append(p.Locations, l)
	return nil
}

func (d *Decoder) line(b []byte, from int) error {
	var v [11]uint64
	if err := numbers(&v, b, from, lineFields, "line"); err != nil {
		return err
	}
	if !room(d, &d.p.Lines) {
		return d.tooLarge()
	}
	function := v[1] - 1
	if function >= d.maxFunction {
		d.maxFunction, d.maxFunctionAt = function, from
	}
	d.p.Lines = append(d.p.Lines, Line{Function: uint32(function), Line: int64(v[2]), Column: int64(v[3])})
	return nil
}
