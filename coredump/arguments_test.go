//go:build linux && amd64

package coredump_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump"
	"github.com/goinquest/inquest/internal/testprog"
)

// TestArguments reads them from programs, and sees that nothing is left of
// secrets in all of their memory.
func TestArguments(t *testing.T) {
	for i, b := range []testprog.Build{{}, {CGO: true}, {PIE: true, Stripped: true}} {
		t.Run(b.String(), func(t *testing.T) {
			if i > 0 && testing.Short() {
				t.Skip("short")
			}
			long := strings.Repeat("-----BEGIN KEY----- 0123456789\n", 200)
			h := testprog.Hold(t, b.Path(t), testprog.Options{
				Args: []string{"-kind=panic", "-token", "token-of-the-program", "-goroutines=3"},
				Env:  []string{"DB_PASSWORD=correct horse battery", "TLS_KEY=" + long, "GOGC=50", "EMPTY="},
			}, 0)
			a, err := coredump.ReadArguments(&h.Process)
			if err != nil {
				t.Fatal(err)
			}
			var args, env []string
			for _, s := range a.Args {
				args = append(args, s.Text)
			}
			for _, s := range a.Env {
				env = append(env, s.Text)
			}
			if got := strings.Join(args[1:], " "); got != "-kind=panic -token token-of-the-program -goroutines=3" {
				t.Errorf("arguments %q", got)
			}
			if got := strings.Join(env[2:], " "); got != "GOTRACEBACK=crash DB_PASSWORD=correct horse battery TLS_KEY="+long+" GOGC=50 EMPTY=" {
				t.Errorf("environment %.200q", got)
			}
			secrets := []string{"correct horse battery", "token-of-the-program", long[:64]}
			before, after := blankAll(t, h, a, secrets)
			for i, s := range secrets {
				if before[i] < 2 || after[i] != 0 {
					t.Errorf("%q was there %d times, and is %d times", s, before[i], after[i])
				}
			}
			notes := h.Notes()
			n := coredump.NewBlanker(&h.Process, a, coredump.BlankOptions{}).BlankNotes(notes)
			if n == 0 || bytes.Contains(notes, []byte("token-of")) || !bytes.Contains(notes, []byte("-token xxx")) && !bytes.Contains(notes, []byte("-kind=xxx")) {
				t.Errorf("%d bytes of notes were blanked: %q", n, notes[:600])
			}
		})
	}
}

// blankAll counts the secrets in all memory, and what is left of them.
func blankAll(t *testing.T, h *testprog.Held, a *coredump.Arguments, secrets []string) (before, after []int) {
	t.Helper()
	b := coredump.NewBlanker(&h.Process, a, coredump.BlankOptions{})
	before, after = make([]int, len(secrets)), make([]int, len(secrets))
	for _, e := range present(h) {
		raw, err := io.ReadAll(io.NewSectionReader(h.Memory, int64(e.Addr), int64(e.Size)))
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range secrets {
			before[i] += bytes.Count(raw, []byte(s))
		}
		const step = 3 * 4096
		for at := 0; at < len(raw); at += step {
			b.Blank(raw[at:min(at+step, len(raw))], e.Addr+uint64(at))
		}
		for i, s := range secrets {
			after[i] += bytes.Count(raw, []byte(s))
		}
	}
	return before, after
}

// TestCutArguments misses a page that they are on.
func TestCutArguments(t *testing.T) {
	h := testprog.Hold(t, testprog.Build{}.Path(t), testprog.Options{Args: []string{"-kind=panic"}, Env: []string{"LONG=" + strings.Repeat("long ", 8<<10)}}, 0)
	a, err := coredump.ReadArguments(&h.Process)
	if err != nil {
		t.Fatal(err)
	}
	long := a.Env[len(a.Env)-1]
	whole := read(t, h, h.Present(coredump.Extent{Addr: long.Addr - 128<<10&^4095, Size: 256 << 10}))
	p := h.Process
	p.Memory = whole
	if _, err := coredump.ReadArguments(&p); err != nil {
		t.Errorf("nothing is missing, and yet: %v", err)
	}
	for _, at := range []uint64{long.Addr, long.Addr + 20<<10, a.Args[0].Addr} {
		page := whole.bytes[at&^4095]
		delete(whole.bytes, at&^4095)
		if a, err := coredump.ReadArguments(&p); !errors.Is(err, inquest.ErrNotFound) {
			t.Errorf("without the page of %#x: %d variables, %v", at, len(a.Env), err)
		}
		whole.bytes[at&^4095] = page
	}
}

func TestNoArguments(t *testing.T) {
	for _, p := range []coredump.Process{
		{Memory: strings.NewReader("")},
		{Memory: strings.NewReader(strings.Repeat("\x00", 1<<16)), Auxv: map[uint64]uint64{31: 1 << 15}},
		{Memory: bytes.NewReader(bytes.Repeat([]byte{31, 0, 0, 0, 0, 0, 0, 0}, 1<<13)), Auxv: map[uint64]uint64{31: 31}},
	} {
		if a, err := coredump.ReadArguments(&p); err == nil && len(a.Args) > 0 || err != nil && !errors.Is(err, inquest.ErrNotFound) {
			t.Errorf("%v, %v", a, err)
		}
	}
}
