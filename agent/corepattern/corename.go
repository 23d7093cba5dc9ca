package corepattern

import (
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// coreName recognizes the files that the kernel writes under a pattern.
type coreName struct {
	re      *regexp.Regexp
	letters []byte // what each group of re is
}

// newCoreName makes it of the last element of a file pattern; usesPID says
// that the kernel appends process numbers to patterns without.
func newCoreName(pattern string, usesPID bool) *coreName {
	base := path.Base(pattern)
	c := &coreName{}
	var b strings.Builder
	for i := 0; i < len(base); i++ {
		if base[i] != '%' {
			b.WriteString(regexp.QuoteMeta(base[i : i+1]))
			continue
		}
		if i++; i == len(base) {
			break
		}
		switch base[i] {
		case '%':
			b.WriteByte('%')
		case 'p', 'P', 'i', 'I', 'u', 'g', 's', 't', 'd', 'C', 'c':
			b.WriteString(`(\d+)`)
			c.letters = append(c.letters, base[i])
		case 'h', 'e', 'f', 'E':
			b.WriteString(`(.*)`)
			c.letters = append(c.letters, base[i])
		}
	}
	if usesPID && !uses(pattern, 'p') && !uses(pattern, 'P') {
		b.WriteString(`\.(\d+)`)
		c.letters = append(c.letters, 'p')
	}
	c.re = regexp.MustCompile(`^(?s:` + b.String() + `)$`)
	return c
}

// parse fills in what the name of a file tells of the death; false if it is
// not a name of the pattern's. Processes of a namespace of their own are not
// numbered as the host does, so only %P counts.
func (c *coreName) parse(name string, d *Death) bool {
	m := c.re.FindStringSubmatch(name)
	if m == nil {
		return false
	}
	for i, letter := range c.letters {
		n, err := strconv.Atoi(m[i+1])
		if err != nil {
			continue
		}
		switch letter {
		case 'P':
			d.PID = n
		case 'I':
			d.TID = n
		case 's':
			d.Signal = n
		case 'u':
			d.UID = n
		case 'g':
			d.GID = n
		case 't':
			d.At = time.Unix(int64(n), 0)
		}
	}
	return true
}
