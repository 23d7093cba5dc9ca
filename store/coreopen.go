package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/goinquest/inquest"
)

// openCores reads the rows of cores, takes up what an earlier run left of
// uploads, and removes what nothing says what it is. lost says that the
// catalog may not have its last state.
func (s *Store) openCores(lost bool) error {
	d := &s.cores
	d.s, d.dir = s, coresIn(s.ops, s.o.Dir, coreSuffix).dir
	d.rows, d.open, d.take = map[string]*StoredCore{}, map[string]*coreUpload{}, make(chan struct{}, 2)
	d.reports = map[string]uint64{}
	if err := s.ops.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create core directory: %w", err)
	}
	rows, bad, err := s.readCoreRows()
	if err != nil {
		return err
	}
	files, err := d.list()
	if err != nil {
		return err
	}
	for id, has := range files {
		switch row := rows[id]; {
		case row != nil && has[coreSuffix] && has[offerSuffix]:
			d.rows[id] = row
			d.bytes += row.StoredBytes
			for _, suffix := range []string{haveSuffix, uploadSuffix} {
				if has[suffix] {
					_ = s.ops.Remove(d.path(id, suffix)) // of an end that was cut short
				}
			}
		case row == nil && !has[coreSuffix] && !has[offerSuffix] && !has[uploadSuffix] && !has[haveSuffix]: // a report alone
		case row != nil: // reported below; what is there stays for a person to look at
		case (lost || bad[id]) && has[coreSuffix] && !has[haveSuffix]:
			if err := s.readoptCore(id); err != nil {
				return err
			}
		default:
			if err := d.restore(id, has, lost); err != nil {
				return err
			}
		}
	}
	for id, has := range files {
		if has[reportSuffix] {
			d.openReport(id)
		}
	}
	for id := range rows {
		if d.rows[id] == nil {
			s.lostCore(id, errors.New("its file is not there"))
		}
	}
	return nil
}

// list says which files there are, by core and suffix. What is none of a core
// is removed.
func (d *coreDepot) list() (map[string]map[string]bool, error) {
	entries, err := d.s.ops.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("list cores: %w", err)
	}
	files := map[string]map[string]bool{}
	for _, e := range entries {
		id, suffix, _ := strings.Cut(e.Name(), ".")
		suffix = "." + suffix
		switch {
		case strings.Contains(e.Name(), brokenInfix): // kept by a repair
		case isCoreID(id) && (suffix == coreSuffix || suffix == offerSuffix || suffix == haveSuffix || suffix == uploadSuffix || suffix == reportSuffix):
			if files[id] == nil {
				files[id] = map[string]bool{}
			}
			files[id][suffix] = true
		case strings.HasSuffix(e.Name(), tempSuffix):
			if err := d.s.ops.Remove(d.path(e.Name(), "")); err != nil {
				return nil, fmt.Errorf("remove a file of a core: %w", err)
			}
		}
	}
	return files, nil
}

// readCoreRows reads the rows of the catalog; bad are those that cannot be.
func (s *Store) readCoreRows() (rows map[string]*StoredCore, bad map[string]bool, err error) {
	rows, bad = map[string]*StoredCore{}, map[string]bool{}
	err = s.catalog.view(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bucketCores)).ForEach(func(k, sealed []byte) error {
			c, err := readCoreRow(k, sealed)
			if err != nil {
				bad[string(k)] = true
				return nil
			}
			rows[c.ID] = c
			return nil
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read cores in catalog: %w", err)
	}
	return rows, bad, nil
}

// readoptCore gives a core that lost its row a new one, and its crash if that
// is lost too.
func (s *Store) readoptCore(id string) error {
	o, err := readOffer(s.ops, s.cores.path(id, offerSuffix), id)
	if err != nil {
		s.lostCore(id, err)
		return nil
	}
	row := o.row(s.o.Now().UTC())
	err = s.changeCrashes(func(t *crashTx) error {
		c, err := t.tell(&o.Crash)
		if err != nil {
			return err
		}
		next := *c
		core := row.Core
		next.Core, next.CoreGone, next.Tier = &core, "", higher(c.Tier, core.Tier)
		if err := t.put(c, &next); err != nil {
			return err
		}
		row.Group = next.Group
		return putCore(t.tx, row)
	})
	if err != nil {
		return err
	}
	s.o.Logger.Warn("the row of a core was lost and is made again", "core", id, "crash", row.Crash)
	s.cores.rows[id] = row
	s.cores.bytes += row.StoredBytes
	return nil
}

// lostCore tells of a core that cannot be served.
func (s *Store) lostCore(id string, err error) {
	s.lostLog = append(s.lostLog, fmt.Sprintf("%s: %v", coreFile(id), err))
	s.o.Logger.Error("a core cannot be read and counts as not there", "core", id, inquest.LogErr, err)
}

// restore takes up the upload of a core that has no row, or removes what is
// left of it: without an offer nothing says what it is, and an offer without
// its crash was deleted, unless the catalog was lost.
func (d *coreDepot) restore(id string, has map[string]bool, lost bool) error {
	path := d.path(id, uploadSuffix)
	if has[coreSuffix] && has[haveSuffix] && !has[uploadSuffix] { // its row was about to come
		if err := d.s.ops.Rename(d.path(id, coreSuffix), path); err != nil {
			return fmt.Errorf("take up a core: %w", err)
		}
		has[uploadSuffix], has[coreSuffix] = true, false
	}
	o, err := readOffer(d.s.ops, d.path(id, offerSuffix), id)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, errOffer) {
		return fmt.Errorf("take up a core: %w", err)
	}
	if err == nil && lost && d.s.crashes.rows[o.Crash.ID] == nil {
		if err := d.s.changeCrashes(func(t *crashTx) error { _, err := t.tell(&o.Crash); return err }); err != nil {
			return err
		}
	}
	if err != nil || has[coreSuffix] || d.s.crashes.rows[o.Crash.ID] == nil {
		d.s.o.Logger.Info("what is left of a core is deleted", "core", id)
		for _, suffix := range []string{offerSuffix, uploadSuffix, coreSuffix, haveSuffix} {
			if err := d.s.ops.Remove(d.path(id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("remove a file of a core: %w", err)
			}
		}
		return nil
	}
	u := newCoreUpload(d, o, d.s.o.Now())
	if st, err := d.s.ops.Stat(path); err == nil {
		// The clock of the files may not be the one the store goes by.
		u.touched = u.touched.Add(-max(0, time.Since(st.ModTime())))
		if err := u.readHave(); err != nil {
			return fmt.Errorf("take up a core: %w", err)
		}
	}
	d.open[id] = u
	return nil
}
