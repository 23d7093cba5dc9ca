package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestCurrent sees that the table in the repository is what the toolchains say.
func TestCurrent(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	var out bytes.Buffer
	if err := run(&out); err != nil {
		if os.Getenv("CI") != "true" && (strings.Contains(err.Error(), "toolchain not available") || strings.Contains(err.Error(), "download go1")) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../coredump/layouts.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, out.Bytes()) {
		t.Error("coredump/layouts.go is not current: go generate ./coredump")
	}
}
