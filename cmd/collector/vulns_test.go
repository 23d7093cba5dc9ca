package main

import (
	"testing"

	"github.com/goinquest/inquest"
)

// TestVulns reads a database, keeps it when a new one cannot be read, and
// forgets it when none is configured.
func TestVulns(t *testing.T) {
	const dir = "../../internal/vulndb/testdata"
	build := &inquest.Build{GoVersion: "go1.21.1", Module: "example.org/a", Modules: []inquest.Module{{Path: "golang.org/x/net", Version: "v0.20.0"}}}
	var v vulns
	if v.of(build) != nil {
		t.Error("something is known without a database")
	}
	if err := v.read(dir); err != nil {
		t.Fatal(err)
	}
	n := len(v.of(build))
	if n < 2 { // of x/net and of the standard library
		t.Errorf("%d vulnerabilities: %+v", n, v.of(build))
	}
	if err := v.read(t.TempDir()); err == nil || len(v.of(build)) != n {
		t.Errorf("an empty directory: %v, %d vulnerabilities, want an error and the %d from before", err, len(v.of(build)), n)
	}
	if err := v.read(""); err != nil || v.of(build) != nil {
		t.Errorf("none: %v, %v", err, v.of(build))
	}
}
