// Package debug is stage B of looking into a core: what takes debug
// information, by Delve. It shows goroutines with their stacks, arguments,
// locals and panics, evaluates expressions, and lets dlv and editors connect.
//
// Delve is used as a library and only in sandboxed children, of one core each:
// it trusts cores, panics on damaged ones and may run without end. What a child
// answers is bounded, checked and cleaned here before anybody else sees it.
// A program that links this package gives Stages to sandbox.Main.
//
// Delve does not notice that a core and an executable do not belong together,
// and shows nonsense then. So their build ids are compared before.
//
// This is the only user of Delve: other packages see the types of this one.
package debug
