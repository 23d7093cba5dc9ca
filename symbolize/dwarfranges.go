package symbolize

// codeOf returns where the code of an entry is. Only ranges that begin in an
// executable section count: linkers leave entries of code they dropped, at
// address 0 or 1 or at the very end.
func (u *dwarfUnit) codeOf(e *dwarfEntry) []nativeRange {
	var out []nativeRange
	add := func(lo, hi uint64) {
		if section, ok := u.d.file.codeAt(lo); ok && hi > lo {
			out = append(out, nativeRange{lo, min(hi, section.hi)})
		}
	}
	if e.hasRanges {
		u.rangeList(e.ranges, e.rangesClass, add)
		return out
	}
	lo, ok := u.address(e.low, e.lowClass)
	if !ok {
		return nil
	}
	hi, ok := u.address(e.high, e.highClass)
	if e.highClass == classNumber {
		hi, ok = lo+e.high, true
	}
	if ok {
		add(lo, hi)
	}
	return out
}

// rangeList calls add with the ranges of a list, at most as many as the budget
// has left: lists may be shared, and damaged ones overlap.
func (u *dwarfUnit) rangeList(at uint64, class dwarfClass, add func(lo, hi uint64)) {
	if u.version < 5 {
		u.oldRangeList(at, add)
		return
	}
	if class == classList {
		size := uint64(4)
		if u.wide {
			size = 8
		}
		if at > uint64(len(u.d.rnglists)) {
			return
		}
		c := dwarfAt(u.d.rnglists, u.listBase+at*size)
		if at = u.listBase + c.word(u.wide); c.bad {
			return
		}
	}
	c := dwarfAt(u.d.rnglists, at)
	base := u.low
	for !c.bad {
		if u.d.rangeBudget--; u.d.rangeBudget < 0 {
			return
		}
		var lo, hi uint64
		switch c.u8() { // DWARF 5, 7.25
		case 1: // base, as an index
			base, _ = u.address(c.uleb(), classIndex)
			continue
		case 2: // both as indexes
			lo, _ = u.address(c.uleb(), classIndex)
			hi, _ = u.address(c.uleb(), classIndex)
		case 3: // index and length
			lo, _ = u.address(c.uleb(), classIndex)
			hi = lo + c.uleb()
		case 4: // two offsets from the base
			lo = base + c.uleb()
			hi = base + c.uleb()
		case 5: // base
			base = c.u64()
			continue
		case 6: // both as addresses
			lo = c.u64()
			hi = c.u64()
		case 7: // address and length
			lo = c.u64()
			hi = lo + c.uleb()
		default:
			return
		}
		if !c.bad {
			add(lo, hi)
		}
	}
}

// oldRangeList reads a list as it was before DWARF 5: pairs of offsets.
func (u *dwarfUnit) oldRangeList(at uint64, add func(lo, hi uint64)) {
	c := dwarfAt(u.d.ranges, at)
	base := u.low
	for {
		lo, hi := c.u64(), c.u64()
		if u.d.rangeBudget--; c.bad || u.d.rangeBudget < 0 || lo == 0 && hi == 0 {
			return
		}
		if lo == ^uint64(0) {
			base = hi
			continue
		}
		add(base+lo, base+hi)
	}
}
