// Package coredump knows what is inside the memory of a process that died: it
// reads and writes cores, finds goroutines in them without debug information,
// tells deaths apart, and parses what a process wrote while it died.
//
// Memory is read by address through an io.ReaderAt, so a core on disk, one in
// the store and a live process are the same here. Input is not trusted: wrong
// bytes give errors of kind inquest.ErrInvalid.
package coredump
