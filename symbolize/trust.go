package symbolize

import (
	"fmt"

	"github.com/goinquest/inquest"
)

// pairedSections are what code, its constants and Go's table of lines are in.
// Two files with the same bytes in them at the same addresses are of one build.
var pairedSections = []string{".text", ".rodata", ".gopclntab"}

// Pair says how far debug may stand for exe, the file that ran, and for people
// why: debug is its unstripped twin, or a companion without code.
//
// It is exact if the build ids are equal (GNU's; Go's where not both have one of GNU)
// and sections that both have lie at the same addresses and, where both are
// hashed, have the same bytes; or, if ids are missing, by the bytes and addresses
// of .text, .rodata and .gopclntab. It is names if .gopclntab has the same bytes
// and .text the same place, as in a second build that was not stripped: its ids
// and data differ, functions, files and lines hold. Ids that conflict never make
// it exact, and all else is none.
func Pair(exe, debug *inquest.Binary) (trust inquest.Trust, reason string) {
	if exe.Arch != debug.Arch {
		return inquest.TrustNone, fmt.Sprintf("one is for %s, the other for %s", exe.Arch, debug.Arch)
	}
	id, conflict := pairIDs(exe, debug)
	moved := pairPlaces(exe, debug)
	same, missing, differs := pairBytes(exe, debug)
	switch {
	case conflict != "":
		reason = conflict
	case moved != "":
		reason = moved
	case differs != "":
		reason = fmt.Sprintf("their %s differs", differs)
	case id != "":
		return inquest.TrustExact, fmt.Sprintf("their %s build ids and addresses are equal", id)
	case missing == "":
		return inquest.TrustExact, "their code and constants are equal"
	default:
		reason = fmt.Sprintf("they have no build ids to compare, nor the bytes of %s", missing)
	}
	text, other := pairSection(exe, ".text"), pairSection(debug, ".text")
	if same[".gopclntab"] && text != nil && other != nil && text.Addr == other.Addr && text.Size == other.Size {
		return inquest.TrustNames, reason + "; Go's table of functions is the same"
	}
	return inquest.TrustNone, reason
}

// pairIDs says which ids are equal, or what conflict there is.
func pairIDs(exe, debug *inquest.Binary) (equal, conflict string) {
	for _, id := range []struct{ name, exe, debug string }{
		{"GNU", exe.GNUBuildID, debug.GNUBuildID},
		{"Go", exe.GoBuildID, debug.GoBuildID},
	} {
		if id.exe == "" || id.debug == "" {
			continue
		}
		if id.exe != id.debug {
			return "", fmt.Sprintf("their %s build ids differ", id.name)
		}
		if equal == "" {
			equal = id.name
		}
	}
	return equal, ""
}

// pairPlaces says which section that both load lies elsewhere, "" if none does.
func pairPlaces(exe, debug *inquest.Binary) string {
	at := map[string]uint64{}
	for _, s := range exe.Sections {
		if s.Addr != 0 && at[s.Name] == 0 {
			at[s.Name] = s.Addr
		}
	}
	seen := map[string]bool{}
	for _, s := range debug.Sections {
		addr := at[s.Name]
		if s.Addr != 0 && !seen[s.Name] && addr != 0 && addr != s.Addr {
			return fmt.Sprintf("section %s is at %#x in one and at %#x in the other", s.Name, addr, s.Addr)
		}
		seen[s.Name] = seen[s.Name] || s.Addr != 0
	}
	return ""
}

// pairBytes compares what pairedSections have in them: which are the same, the first
// that cannot be compared, and the first that differs. One that neither file has does not
// count, but for .text, which every program has.
func pairBytes(exe, debug *inquest.Binary) (same map[string]bool, missing, differs string) {
	same = map[string]bool{}
	for _, name := range pairedSections {
		a, b := pairSection(exe, name), pairSection(debug, name)
		switch {
		case a == nil && b == nil && name != ".text":
		case a == nil || b == nil || a.SHA256 == "" || b.SHA256 == "":
			if missing == "" {
				missing = name
			}
		case a.SHA256 == b.SHA256 && a.Size == b.Size:
			same[name] = true
		case differs == "":
			differs = name
		}
	}
	return same, missing, differs
}

// pairSection is the first section of a name, nil if there is none.
func pairSection(b *inquest.Binary, name string) *inquest.Section {
	for i := range b.Sections {
		if b.Sections[i].Name == name {
			return &b.Sections[i]
		}
	}
	return nil
}
