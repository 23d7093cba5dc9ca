package inquest_test

import (
	"testing"

	"github.com/goinquest/inquest"
)

func TestAddress(t *testing.T) {
	for want, a := range map[string]inquest.Address{
		"libc.so.6+0x28f3a@0123456789abcdef": inquest.NewAddress("/usr/lib/libc.so.6", "0123456789abcdef", 0x28f3a),
		"libc.so.6+0x28f3a":                  inquest.NewAddress("/usr/lib/libc.so.6", "", 0x28f3a),
		"a+0x1@b+0x2@c":                      {File: "a+0x1@b", Build: "c", Offset: 2},
		"[vdso]+0x10":                        inquest.NewAddress("[vdso]", "", 16),
		"0xdeadbeef":                         inquest.NewAddress("", "abc", 0xdeadbeef),
	} {
		if a.String() != want {
			t.Errorf("%+v is spelled %q, want %q", a, a.String(), want)
		}
		if got, ok := inquest.ParseAddress(want); !ok || got != a {
			t.Errorf("%q is read as %+v, %v", want, got, ok)
		}
	}
	for _, name := range []string{"", "main.main", "+0x12", "a+0xzz", "operator+0", "0x", "a+0x1ffffffffffffffff"} {
		if a, ok := inquest.ParseAddress(name); ok {
			t.Errorf("%q is read as %+v", name, a)
		}
	}
	if got := (inquest.Address{File: "a", Build: "0123456789abcdef", Offset: 1}).Short(); got != "a+0x1@0123456789ab" {
		t.Error(got)
	}
}
