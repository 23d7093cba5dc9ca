package sandbox

import "strings"

// Layer is one part of the sandbox: whether it holds here.
type Layer struct {
	Name  string `json:"name"`
	Base  bool   `json:"base,omitempty"` // without it no stage runs
	Holds bool   `json:"holds"`
	Note  string `json:"note,omitempty"` // why it does not, or how far it does
}

// hold says whether all of the base does, and if not, what does not.
func hold(layers []Layer) (bool, string) {
	var missing []string
	base := 0
	for _, l := range layers {
		if l.Base && !l.Holds {
			missing = append(missing, l.Name+" ("+l.Note+")")
		}
		if l.Base {
			base++
		}
	}
	if base == 0 {
		return false, "no layer at all"
	}
	return len(missing) == 0, strings.Join(missing, ", ")
}
