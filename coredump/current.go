package coredump

// The first words of the runtime's structures lie the same in Go 1.22 to 1.26,
// as its assembly code needs them (runtime/runtime2.go).
const (
	gM     = 48 // g.m
	gSched = 56 // g.sched: sp, pc, g, …
	mG0    = 0  // m.g0

	schedPC = gSched + 8
	schedG  = gSched + 16

	mWords = 64 // of an m, where its goroutines are
)

// gobuf is where a goroutine goes on, as the runtime saved it.
type gobuf struct {
	g  uint64 // the goroutine; 0: there is none
	at call   // pc is 0 if it was not saved
}

// current finds the goroutine that a thread runs, whatever stack it is on just
// now. It needs no table of the runtime: what belongs together points at each other.
func (u *unwinder) current(t *Thread) gobuf {
	for _, g := range u.candidates(t) {
		m, ok := u.m.word(g + gM)
		if !ok || m == 0 {
			continue
		}
		g0, ok := u.m.word(m + mG0)
		if back, ok2 := u.m.word(g0 + gM); !ok || !ok2 || back != m {
			continue
		}
		for i := range uint64(mWords) {
			c, ok := u.m.word(m + i*8)
			if !ok || c == g0 || c == m || c%8 != 0 || !u.isGoroutine(c, m) {
				continue
			}
			return u.gobuf(c)
		}
		return gobuf{}
	}
	return gobuf{}
}

// candidates are the addresses where the thread's g may be.
func (u *unwinder) candidates(t *Thread) []uint64 {
	out := []uint64{t.G}
	slots := []uint64{t.TLS - 8} // where the linker puts runtime.tlsg
	if u.arm {
		slots = []uint64{t.TLS + 16}
	}
	for _, s := range slots {
		if g, ok := u.m.word(s); ok && t.TLS != 0 {
			out = append(out, g)
		}
	}
	return out
}

// isGoroutine reports whether a g is one, and runs on m.
func (u *unwinder) isGoroutine(g, m uint64) bool {
	of, ok := u.m.word(g + gM)
	self, ok2 := u.m.word(g + schedG) // the signal stack's g has none
	return ok && ok2 && of == m && self == g
}

// gobuf reads where a goroutine goes on.
func (u *unwinder) gobuf(g uint64) gobuf {
	b := gobuf{g: g}
	b.at.sp, _ = u.m.word(g + gSched)
	b.at.pc, _ = u.m.word(g + schedPC)
	if u.arm { // the link register comes after ctxt and, until Go 1.24, ret
		if b.at.lr, _ = u.m.word(g + gSched + 32); b.at.lr == 0 {
			b.at.lr, _ = u.m.word(g + gSched + 40)
		}
	}
	if b.at.sp == 0 {
		b.at.pc = 0
	}
	return b
}
