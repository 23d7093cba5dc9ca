// Package native is C that is called, and calls back.
package native

/*
int turn(int n);
int there(int n);
*/
import "C"

// Met is called in the middle of C.
var Met = func() {}

//export back
func back(n C.int) C.int { Met(); return n + 1 }

// Turn spends its time in C.
func Turn(n int) int { return int(C.turn(C.int(n))) + int(C.there(3)) }
