package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goinquest/inquest/store"
)

func TestAudit(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	s.SmallAudit(2000, 3)
	for n := range 100 {
		if err := s.Audit(store.AuditEntry{Who: "ci", Action: "read core", Object: fmt.Sprint("core", n), Result: "ok"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of a line.
	f, err := os.OpenFile(filepath.Join(dir, "audit.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"number":7`)
	f.Close()
	s = open(t, dir)
	if err := s.Audit(store.AuditEntry{Who: "ci", Action: "delete core", Result: "ok"}); err != nil {
		t.Fatal(err)
	}
	var all []store.AuditEntry
	for before := uint64(0); ; {
		page, err := s.AuditLog(before, 7)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, page...); len(page) < 7 {
			break
		}
		before = page[6].Number
	}
	if all[0].Action != "delete core" || !strings.Contains(all[1].Result, "not finished") {
		t.Errorf("newest: %+v", all[:2])
	}
	told := false
	for i := range all {
		if i > 0 && all[i].Number != all[i-1].Number-1 {
			t.Errorf("%d follows %d", all[i].Number, all[i-1].Number)
		}
		told = told || all[i].Action == "delete oldest of audit log"
	}
	if last := all[len(all)-1].Number; last == 1 || !told {
		t.Errorf("%d entries, down to number %d; told %v", len(all), last, told)
	}
}
