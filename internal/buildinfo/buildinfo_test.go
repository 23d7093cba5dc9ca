package buildinfo_test

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/goinquest/inquest/internal/buildinfo"
)

func TestWrite(t *testing.T) {
	var text, js bytes.Buffer
	if err := buildinfo.Write(&text, "prog", false); err != nil {
		t.Fatal(err)
	}
	if err := buildinfo.Write(&js, "prog", true); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text.String(), "prog ") || !strings.Contains(text.String(), runtime.Version()) {
		t.Errorf("text lacks program or Go version:\n%s", &text)
	}
	var got struct{ Program, Version, Go, Platform string }
	if err := json.Unmarshal(js.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Program != "prog" || got.Version == "" || got.Go != runtime.Version() || got.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("JSON = %+v", got)
	}
}

func TestString(t *testing.T) {
	for want, i := range map[string]buildinfo.Info{
		"v1.2.0":                      {Version: "v1.2.0"},
		"devel (0123456789ab, dirty)": {Version: "devel", Revision: "0123456789abcdef", Dirty: true},
	} {
		if got := i.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
