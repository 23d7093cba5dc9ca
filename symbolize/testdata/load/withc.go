//go:build cgo

package main

import "load/native"

func extra(n int) int {
	native.Met = here
	return native.Turn(n)
}
