package inquest

import (
	"path"
	"strconv"
	"strings"
)

// Address is a frame of which no function is known: a place in a mapped file.
type Address struct {
	File   string // base name of the mapped file; "" if it is not known
	Build  string // build id of the file as the profile has it; "" if it has none
	Offset uint64 // in the file; the bare address if File is ""
}

// String spells the address, as the name of a frame: file+0xoffset@build,
// without what is not known.
func (a Address) String() string {
	offset := "0x" + strconv.FormatUint(a.Offset, 16)
	switch {
	case a.File == "":
		return offset
	case a.Build == "":
		return a.File + "+" + offset
	}
	return a.File + "+" + offset + "@" + a.Build
}

// Short is String with no more of the build id than tells builds apart.
func (a Address) Short() string {
	a.Build = short(a.Build)
	return a.String()
}

// NewAddress is an address in a mapped file, given by its path.
func NewAddress(file, build string, offset uint64) Address {
	if file == "" {
		return Address{Offset: offset}
	}
	return Address{path.Base(file), build, offset}
}

// ParseAddress reads what Address.String spells; ok is false for other names.
func ParseAddress(name string) (a Address, ok bool) {
	number := name
	if i := strings.LastIndex(name, "+0x"); i > 0 {
		a.File, number = name[:i], name[i+1:]
		number, a.Build, _ = strings.Cut(number, "@")
	}
	hex, ok := strings.CutPrefix(number, "0x")
	if !ok {
		return Address{}, false
	}
	var err error
	a.Offset, err = strconv.ParseUint(hex, 16, 64)
	return a, err == nil
}
