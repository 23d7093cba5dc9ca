package debug

import "testing"

// TestDisarm is inside of the package, as what it is about comes from a child
// that a core has taken over.
func TestDisarm(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`{"a":"plain\ttext\n","b":"\\u001b"}`, `{"a":"plain\ttext\n","b":"\\u001b"}`},
		{`"\u001b[31m"`, `"\ufffd[31m"`},
		{`"\\\u001b\"\u0007"`, `"\\\ufffd\"\ufffd"`},
		{`"\u0009\u000a\u00e4\u202E"`, `"\u0009\u000a\u00e4\ufffd"`},
		{"\"\x7f\u009b\u202e é 世\"", "\"?????? é 世\""},
		{`"\u00`, `"\u00`},
		{`\`, `\`},
	} {
		if got := string(disarm([]byte(test.in))); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}
