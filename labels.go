package inquest

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Names of the labels every profile has. They are reserved: a target cannot
// set them as its own labels.
const (
	LabelService  = "service"  // what people call the program
	LabelInstance = "instance" // the place that runs it: host:port, pod
	LabelRelease  = "release"  // explicit release; empty in storage means: resolved when read
	LabelBuild    = "build"    // BuildID of the executable, empty if unknown
)

// Limits on the labels of one target.
const (
	MaxLabels          = 32   // labels per target, reserved ones not counted
	MaxLabelNameBytes  = 128  // bytes of a name
	MaxLabelValueBytes = 1024 // bytes of a value
)

// Label is one name and its value.
type Label struct {
	Name, Value string
}

// Labels is a set of labels, sorted by name, each name once, no empty value
// (an empty value means: not there). The zero value is the empty set. Labels
// are immutable once made.
type Labels []Label

// NewLabels makes Labels from a map, leaving out empty values.
func NewLabels(m map[string]string) Labels {
	ls := make(Labels, 0, len(m))
	for n, v := range m {
		if v != "" {
			ls = append(ls, Label{n, v})
		}
	}
	sort.Slice(ls, func(i, j int) bool { return ls[i].Name < ls[j].Name })
	return ls
}

// Get returns the value of a name, "" if it is not there.
func (ls Labels) Get(name string) string {
	for i := range ls {
		if ls[i].Name == name {
			return ls[i].Value
		}
	}
	return ""
}

// With returns a copy of ls in which name has the value; "" removes it.
func (ls Labels) With(name, value string) Labels {
	out := make(Labels, 0, len(ls)+1)
	for _, l := range ls {
		if l.Name != name {
			out = append(out, l)
		}
	}
	if value != "" {
		i := sort.Search(len(out), func(i int) bool { return out[i].Name > name })
		out = append(out, Label{})
		copy(out[i+1:], out[i:])
		out[i] = Label{name, value}
	}
	return out
}

// Map returns the labels as a new map.
func (ls Labels) Map() map[string]string {
	m := make(map[string]string, len(ls))
	for _, l := range ls {
		m[l.Name] = l.Value
	}
	return m
}

// String spells the set as a selector that matches it: {a="x", b="y"}.
func (ls Labels) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, l := range ls {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.Name)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(l.Value))
	}
	b.WriteByte('}')
	return b.String()
}

// Reserved reports whether a target may not set the label itself.
func Reserved(name string) bool {
	switch name {
	case LabelService, LabelInstance, LabelRelease, LabelBuild:
		return true
	}
	return false
}

// ValidateLabel checks one label's name and value against the limits. The
// error is of kind ErrInvalid and names the label.
func ValidateLabel(name, value string) error {
	switch {
	case name == "":
		return Errorf(ErrInvalid, "a label has no name")
	case len(name) > MaxLabelNameBytes:
		return Errorf(ErrInvalid, "label name %.40q… has %d bytes, at most %d are allowed", name, len(name), MaxLabelNameBytes)
	case len(value) > MaxLabelValueBytes:
		return Errorf(ErrInvalid, "value of label %q has %d bytes, at most %d are allowed", name, len(value), MaxLabelValueBytes)
	case !utf8.ValidString(name):
		return Errorf(ErrInvalid, "label name %q is not valid UTF-8", name)
	case !utf8.ValidString(value):
		return Errorf(ErrInvalid, "value of label %q is not valid UTF-8", name)
	}
	for _, r := range name {
		if r < 0x20 || r == 0x7f {
			return Errorf(ErrInvalid, "label name %q holds a control character", name)
		}
	}
	return nil
}
