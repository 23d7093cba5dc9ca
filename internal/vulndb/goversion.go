package vulndb

import (
	"fmt"
	"regexp"
)

// goVersion is how Go spells its releases: go1.22, go1.22.1, go1.22rc1, with
// what vendors and experiments add behind it.
var goVersion = regexp.MustCompile(`^go(\d+)\.(\d+)(?:\.(\d+))?(?:(rc|beta)(\d+))?(?:[ +-].*)?$`)

// goSemver is a version of Go as a semantic version, in which candidates come
// before their release: go1.22rc1 is v1.22.0-rc.1. It is "" for what is no
// release, of which nobody can say what is in it.
func goSemver(v string) string {
	m := goVersion.FindStringSubmatch(v)
	if m == nil {
		return ""
	}
	patch, before := m[3], ""
	if patch == "" {
		patch = "0"
	}
	if m[4] != "" {
		before = fmt.Sprintf("-%s.%s", m[4], m[5])
	}
	return fmt.Sprintf("v%s.%s.%s%s", m[1], m[2], patch, before)
}
