package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/store"
)

func TestRetentionSettings(t *testing.T) {
	const days = 24 * time.Hour
	usual := store.Retention{Raw: 15 * days, FiveMinutes: 60 * days, Hour: 400 * days, Day: 5 * 365 * days}
	with := func(change func(*store.Retention)) store.Retention {
		r := usual
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		file string
		args []string
		want store.Retention
		says string
	}{
		"nothing": {want: usual},
		"short":   {file: "retention: 3d\n", want: with(func(r *store.Retention) { r.Raw = 3 * days })},
		"long": {
			file: "retention:\n  raw: 7d\n  5m: 30d\n  1d: forever\n  kinds: {goroutine: 1d}\n  services:\n    - {match: \"test-*\", raw: 12h}\n" +
				"  max_bytes: 100GB\n  keep_free: 5%\n  keep_free_last_day_too: true\n",
			want: store.Retention{
				Raw: 7 * days, FiveMinutes: 30 * days, Hour: 400 * days, Day: store.Forever,
				Kinds:    map[inquest.Kind]time.Duration{inquest.KindGoroutine: days},
				Services: []store.ServiceRetention{{Match: "test-*", Raw: 12 * time.Hour}},
				MaxBytes: 100e9, KeepFreePercent: 5, KeepFreeAll: true,
			},
		},
		"a flag beats the file": {file: "retention: {raw: 7d}\n", args: []string{"-retention", "2d"}, want: with(func(r *store.Retention) { r.Raw = 2 * days })},
		"no age":                {file: "retention: {raw: soon}\n", says: `line 1: "soon": want an age`},
		"no size":               {file: "retention: {max_bytes: much}\n", says: `line 1: "much": want a size`},
		"no share":              {file: "retention: {keep_free: 99%}\n", says: "from 0% to 90%"},
		"no service":            {file: "retention:\n  services: [{raw: 3d}]\n", says: "names no service"},
		"no key":                {file: "retention: {row: 3d}\n", says: "did you mean `raw`?"},
	} {
		file := filepath.Join(t.TempDir(), "collector.yaml")
		if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		o, _, err := parse(append([]string{"-config", file}, c.args...), nil, io.Discard)
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(c.want, o.retention()); d != "" {
			t.Errorf("%s: -want +got\n%s", name, d)
		}
	}
}
