//go:build !cgo

package main

func crashInC() { panic("there is no C in this program") }
