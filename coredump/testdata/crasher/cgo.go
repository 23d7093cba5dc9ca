package main

import "C"

var _ C.int
