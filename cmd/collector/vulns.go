package main

import (
	"sync/atomic"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/vulndb"
)

// vulns is the database of vulnerabilities that is configured.
type vulns struct {
	db atomic.Pointer[vulndb.Database] // nil: none is
}

// read puts the database in a file to use; "" for none. With an error the old
// one stays.
func (v *vulns) read(file string) error {
	if file == "" {
		v.db.Store(nil)
		return nil
	}
	d, err := vulndb.Read(file)
	if err != nil {
		return err
	}
	v.db.Store(d)
	return nil
}

// of lists the vulnerabilities of a build's modules; nil if no database says
// so, not nil if there are none.
func (v *vulns) of(b *inquest.Build) []inquest.Vulnerability {
	d := v.db.Load()
	if d == nil {
		return nil
	}
	return d.Affecting(b)
}
