package corepattern

import (
	"path/filepath"
	"strings"
)

// maxPattern is how many bytes a core pattern may have: the kernel's
// CORENAME_MAX_SIZE without the end.
const maxPattern = 127

// The kinds of patterns.
const (
	patternFiles  = "file"
	patternPipe   = "pipe"
	patternSocket = "socket"
)

// patternKind says what the kernel does with a pattern.
func patternKind(p string) string {
	switch {
	case strings.HasPrefix(p, "|"):
		return patternPipe
	case strings.HasPrefix(p, "@"):
		return patternSocket
	}
	return patternFiles
}

// patternDir is the Options.Dir of the agent that made a pattern; "" if it is of
// somebody else.
func patternDir(p string) string {
	switch patternKind(p) {
	case patternSocket:
		if path := strings.TrimLeft(p, "@"); filepath.Base(path) == socketName {
			return filepath.Dir(path)
		}
	case patternPipe:
		f := strings.Fields(p[1:])
		if len(f) > 2 && f[1] == CommandPipe && filepath.Base(f[2]) == handName {
			return filepath.Dir(f[2])
		}
	}
	return ""
}

// isSystemd says that systemd-coredump gets the cores.
func isSystemd(p string) bool {
	f := strings.Fields(strings.TrimPrefix(p, "|"))
	return patternKind(p) == patternPipe && len(f) > 0 && filepath.Base(f[0]) == "systemd-coredump"
}

// specifiers are what a pattern's %-letters stand for, for one death.
type specifiers map[byte]string

// expand replaces the specifiers of one word of a pattern as the kernel does,
// see core(5): unknown ones and a lone % at the end vanish. In a file's name a
// value's slashes become "!", and a value of dots alone begins with "!", so
// that no value can name another directory.
func (s specifiers) expand(word string, file bool) string {
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		if word[i] != '%' {
			b.WriteByte(word[i])
			continue
		}
		if i++; i == len(word) {
			break
		}
		if word[i] == '%' {
			b.WriteByte('%')
			continue
		}
		v := s[word[i]]
		if file {
			v = strings.ReplaceAll(v, "/", "!")
			if v == "." || v == ".." {
				v = "!" + v[1:]
			}
		}
		b.WriteString(v)
	}
	return b.String()
}

// uses says that the pattern has the specifier.
func uses(pattern string, letter byte) bool {
	for i := 0; i+1 < len(pattern); i++ {
		if pattern[i] == '%' {
			if i++; pattern[i] == letter {
				return true
			}
		}
	}
	return false
}
