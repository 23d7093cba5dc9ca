//go:build cgo

package main

/*
static int crash(volatile int *p) { return *p; }
static int call(int n) { return crash((volatile int *)(long)n); }
*/
import "C"

// crashInC reads address 16 in C.
//
//go:noinline
func crashInC() { C.call(16) }
