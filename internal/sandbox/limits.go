package sandbox

import (
	"cmp"
	"time"
)

// Limits bound a child. Zero fields have the defaults that are named.
type Limits struct {
	MemoryBytes int64         // writable memory of its own; 512 MiB
	CPU         time.Duration // processor time of its life, to the second; 5 minutes
	Start       time.Duration // until the stage is ready for requests; 1 minute
	Call        time.Duration // until a request is answered; 1 minute
	Idle        time.Duration // between requests, then it is killed; 0 is for ever
	Life        time.Duration // from its start; 1 hour
	AnswerBytes int           // of one answer; 16 MiB
	// AnswerValues bounds the JSON values of one answer, 250,000: a few bytes can
	// stand for an object that takes hundreds where it is decoded.
	AnswerValues int
}

const (
	stderrBytes  = 16 << 10 // kept of what a child writes there
	requestBytes = 16 << 20 // of one request
	openFiles    = 64       // besides those it inherits
)

func (l Limits) withDefaults() Limits {
	return Limits{
		MemoryBytes: cmp.Or(l.MemoryBytes, 512<<20),
		CPU:         cmp.Or(l.CPU, 5*time.Minute),
		Start:       cmp.Or(l.Start, time.Minute),
		Call:        cmp.Or(l.Call, time.Minute),
		Idle:        l.Idle,
		Life:        cmp.Or(l.Life, time.Hour),
		AnswerBytes: cmp.Or(l.AnswerBytes, 16<<20),

		AnswerValues: cmp.Or(l.AnswerValues, 250_000),
	}
}
