//go:build !unix

package corespool

import "math"

// freeBytes is not known here.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }

func noSpace(error) bool { return false }
