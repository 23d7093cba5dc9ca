package symbolize

import (
	"github.com/goinquest/inquest"
)

// pairedSections are what code and its tables of lines are in. Two files with
// the same bytes in them at the same addresses are of one build.
var pairedSections = []string{".text", ".rodata", ".gopclntab"}

// Pair says how far debug may stand for exe, the file that ran, and for people
// why: debug is an unstripped twin, or a companion without code.
//
// It is exact if the GNU build ids are equal and sections that both have lie
// at the same addresses; without an id on both sides, if .text and .rodata, and
// .gopclntab if either has it, are the same bytes at the same addresses. It is names if
// only .gopclntab is the same, as in a second build that was not stripped:
// functions, files and lines hold, data does not. Ids that conflict never make it
// exact, and without Go's table not even names.
func Pair(exe, debug *inquest.Binary) (inquest.Trust, string) {
	return inquest.TrustNone, ""
}
