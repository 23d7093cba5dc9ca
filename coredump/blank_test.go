package coredump_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goinquest/inquest/coredump"
)

func texts(list ...string) []coredump.Argument {
	var out []coredump.Argument
	for _, s := range list {
		out = append(out, coredump.Argument{Text: s})
	}
	return out
}

func blanker(memory []byte, args, env []string, o coredump.BlankOptions) *coredump.Blanker {
	p := &coredump.Process{}
	if memory != nil {
		p.Memory = bytes.NewReader(memory)
	}
	return coredump.NewBlanker(p, &coredump.Arguments{Args: texts(args...), Env: texts(env...)}, o)
}

func TestBlank(t *testing.T) {
	env := []string{"DB_PASSWORD=correct horse", "PIN=1234", "HOME=/home/service", "CACHE=/home/service", "GOGC=100", "EMPTY=", "LC_ALL=en_US.UTF-8", "MY_NAME=visible one", "A=b"}
	args := []string{"/usr/bin/service", "-v", "--token=abcdefgh", "-n=5", "-listen", "127.0.0.1:8080", "-mode=production"}
	tests := []struct{ in, want string }{
		{"..correct horse..", "..xxxxxxxxxxxxx.."},
		{"DB_PASSWORD=correct horse", "DB_PASSWORD=xxxxxxxxxxxxx"},
		{".correct hors.", ".correct hors."},
		{"correct horsecorrect horse", "xxxxxxxxxxxxxxxxxxxxxxxxxx"},
		{"1234 PIN=1234 PIN=12345", "1234 PIN=xxxx PIN=xxxx5"},
		{"./home/service CACHE=/home/service", "./home/service CACHE=xxxxxxxxxxxxx"},
		{"GOGC=100 en_US.UTF-8 visible one", "GOGC=100 en_US.UTF-8 visible one"},
		{"--token=abcdefgh -n=5 A=b", "--token=xxxxxxxx -n=x A=b"},
		{"127.0.0.1:8080 /usr/bin/service -mode=production", "127.0.0.1:8080 /usr/bin/service -mode=xxxxxxxxxx"},
		{"", ""},
		{"x", "x"},
	}
	o := coredump.BlankOptions{AllowEnv: []string{"MY_*"}, AllowArgs: []string{"listen"}}
	for _, test := range tests {
		p := []byte(test.in)
		n := blanker(nil, args, env, o).Blank(p, 1<<20)
		if string(p) != test.want || n != strings.Count(test.want, "x")-strings.Count(test.in, "x") {
			t.Errorf("%q: %q (%d), want %q", test.in, p, n, test.want)
		}
	}
	if got, want := strings.Join(blanker(nil, args, env, o).What(), "; "), "environment: A, CACHE, DB_PASSWORD, PIN; arguments"; got != want {
		t.Errorf("blanked is %q, want %q", got, want)
	}
}

// TestBlankArgs keeps all but secrets.
func TestBlankArgs(t *testing.T) {
	args := []string{"svc", "serve", "-addr=localhost:80", "-api-token", "deadbeefdead", "-Password=hunter22", "file-name"}
	b := blanker(nil, args, nil, coredump.BlankOptions{KeepArgs: true})
	p := []byte("prefix " + strings.Join(args, " ") + "\x00")
	want := "prefix svc serve -addr=localhost:80 -api-token xxxxxxxxxxxx -Password=xxxxxxxx file-name\x00"
	notes := slices.Clone(p)
	if n := b.Blank(p, 0); string(p) != want || n != 20 {
		t.Errorf("%d: %q", n, p)
	}
	if b.BlankNotes(notes); string(notes) != want[:7+79]+string(notes[7+79:]) {
		t.Errorf("notes: %q", notes)
	}
	short := []byte(strings.Join(args, " ")[:79])
	if b.BlankNotes(short); strings.Contains(string(short), "hunter") {
		t.Errorf("cut notes: %q", short)
	}
}

// TestBlankPlaced blanks short strings where the kernel put them.
func TestBlankPlaced(t *testing.T) {
	mem := []byte("....cmd\x00ab\x00-q\x00K=v\x00HOME=/\x00....ab K=v")
	const base = 0x1000
	at := func(s string) coredump.Argument {
		return coredump.Argument{Addr: base + uint64(bytes.Index(mem, []byte(s+"\x00"))), Text: s}
	}
	a := &coredump.Arguments{Args: []coredump.Argument{at("cmd"), at("ab"), at("-q")}, Env: []coredump.Argument{at("K=v"), at("HOME=/")}}
	b := coredump.NewBlanker(&coredump.Process{}, a, coredump.BlankOptions{})
	p := slices.Clone(mem)
	b.Blank(p[:9], base) // in the middle of an argument
	b.Blank(p[9:], base+9)
	if want := "....cmd\x00xx\x00-q\x00K=x\x00HOME=/\x00....ab K=v"; string(p) != want {
		t.Errorf("%q, want %q", p, want)
	}
}

// TestBlankRandom hides secrets in random memory and blanks it in pieces of
// random size and order: the result is that of the simplest way.
func TestBlankRandom(t *testing.T) {
	for seed := range uint64(60) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var env, secrets []string
		for i := range 1 + rnd.IntN(30) {
			value := make([]byte, 8+rnd.IntN(400))
			for j := range value {
				value[j] = byte('a' + rnd.IntN(3+int(seed%23)))
			}
			secrets = append(secrets, string(value))
			env = append(env, fmt.Sprintf("SECRET_%d=%s", i, value))
		}
		mem := make([]byte, 64<<10)
		for i := range mem {
			mem[i] = byte('A' + rnd.IntN(26))
		}
		for range 40 {
			s := secrets[rnd.IntN(len(secrets))]
			if rnd.IntN(2) == 0 {
				s = env[rnd.IntN(len(env))]
			}
			copy(mem[rnd.IntN(len(mem)-len(s)):], s)
		}
		want := slices.Clone(mem)
		for _, s := range secrets {
			for at := 0; ; at++ {
				i := bytes.Index(mem[at:], []byte(s))
				if i < 0 {
					break
				}
				at += i
				copy(want[at:], strings.Repeat("x", len(s)))
			}
		}
		b := blanker(mem, nil, env, coredump.BlankOptions{})
		got := slices.Clone(mem)
		var cuts []int
		for at := 0; at < len(mem); at += 1 + rnd.IntN(9000) {
			cuts = append(cuts, at)
		}
		for _, i := range rnd.Perm(len(cuts)) {
			end := len(mem)
			if i+1 < len(cuts) {
				end = cuts[i+1]
			}
			b.Blank(got[cuts[i]:end], uint64(cuts[i]))
		}
		for _, s := range secrets {
			if bytes.Contains(got, []byte(s)) {
				t.Fatalf("seed %d: a secret of %d bytes is still there", seed, len(s))
			}
		}
		for i := range got { // long secrets are blanked in parts, where these alone are
			if want[i] == 'x' && got[i] != 'x' || got[i] != mem[i] && got[i] != 'x' {
				t.Fatalf("seed %d: byte %d is %q, want %q", seed, i, got[i], want[i])
			}
			if got[i] == 'x' && mem[i] >= 'A' && mem[i] <= 'Z' {
				t.Fatalf("seed %d: byte %d, which is no secret, was blanked", seed, i)
			}
		}
	}
}

// TestBlankEdge has secrets over the end of what there is.
func TestBlankEdge(t *testing.T) {
	secret := "0123456789abcdefghij"
	for n := 8; n < len(secret); n++ {
		b := blanker(nil, nil, []string{"S=" + secret}, coredump.BlankOptions{})
		head, tail := []byte("...."+secret[:n]), []byte(secret[len(secret)-n:]+"....")
		b.Blank(head, 1<<20)
		b.Blank(tail, 1<<20)
		if want := strings.Repeat("x", n); string(head) != "...."+want || string(tail) != want+"...." {
			t.Errorf("%d bytes: %q, %q", n, head, tail)
		}
	}
}

// environment is a usual one of n variables.
func environment(n int) []string {
	var out []string
	for i := range n {
		switch i % 4 {
		case 0:
			out = append(out, fmt.Sprintf("SERVICE_%d_URL=https://service-%d.example.com:8443/api/v1", i, i))
		case 1:
			out = append(out, fmt.Sprintf("SERVICE_%d_PORT=%d", i, 8000+i))
		case 2:
			out = append(out, fmt.Sprintf("TOKEN_%d=%x", i, rand.New(rand.NewPCG(uint64(i), 2)).Uint64()))
		default:
			out = append(out, fmt.Sprintf("PATH_%d=/var/lib/service/%d/data", i, i))
		}
	}
	return out
}

// heapLike is memory as heaps have it: text, pointers, zeros.
func heapLike(size int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	var buf bytes.Buffer
	for buf.Len() < size {
		switch rnd.IntN(3) {
		case 0:
			fmt.Fprintf(&buf, `{"id":%d,"url":"https://example.com/items/%x","name":"user-%d"},`, rnd.Uint32(), rnd.Uint64(), rnd.IntN(1000))
		case 1:
			for range 16 {
				buf.Write([]byte{byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32()), 0xc0, 0, 0, 0, 0})
			}
		default:
			buf.Write(make([]byte, 100))
		}
	}
	return buf.Bytes()[:size]
}

func BenchmarkBlank(b *testing.B) {
	mem := heapLike(1 << 20)
	for _, n := range []int{10, 50, 200} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := blanker(nil, nil, environment(n), coredump.BlankOptions{})
			b.SetBytes(int64(len(mem)))
			for b.Loop() {
				x.Blank(mem, 1<<30)
			}
		})
	}
	b.Run("index", func(b *testing.B) {
		b.SetBytes(int64(len(mem)))
		for b.Loop() {
			bytes.Index(mem, []byte("https://service-0.example.com:8443/api/v1"))
		}
	})
	b.Run("zeros", func(b *testing.B) {
		x := blanker(nil, nil, environment(50), coredump.BlankOptions{})
		zeros := make([]byte, 1<<20)
		b.SetBytes(int64(len(zeros)))
		for b.Loop() {
			x.Blank(zeros, 1<<30)
		}
	})
}
