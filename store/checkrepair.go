package store

import (
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// repair does what the check found can be done. Files are written before the
// catalog says so, and go after it has forgotten them.
func (c *checker) repair() error {
	if len(c.write)+len(c.update)+len(c.remove) == 0 {
		return nil
	}
	var errs []error
	for _, f := range c.write {
		if err := f.files(); err != nil {
			errs = append(errs, err)
			continue
		}
		c.repaired(f)
	}
	if len(c.update) > 0 {
		if err := c.repairCatalog(); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	for _, f := range c.remove {
		if err := f.files(); err != nil {
			errs = append(errs, err)
			continue
		}
		c.repaired(f)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	return nil
}

func (c *checker) repaired(f fix) {
	if f.problem >= 0 {
		c.report.Problems[f.problem].Repaired = true
	}
}

// repairCatalog changes the catalog's entries in one transaction.
func (c *checker) repairCatalog() error {
	cat, _, err := openCatalog(osFiles{}, c.dir)
	if err != nil {
		return fmt.Errorf("repair: %w", err)
	}
	defer cat.close()
	err = cat.db.Update(func(tx *bbolt.Tx) error {
		for _, f := range c.update {
			if err := f.catalog(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("repair catalog: %w", err)
	}
	for _, f := range c.update {
		c.repaired(f)
	}
	return nil
}
