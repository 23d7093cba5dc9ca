// Package sandbox runs a stage of this program, work on bytes that nobody can
// trust, in a child process that can hardly do anything: the same executable
// again, confined before it reads the first of them.
//
// The base needs no privileges: no_new_privs, Landlock (no file but those it
// inherits, no TCP), seccomp (no sockets, programs, processes, signals to
// others or files for writing), limits on memory, processor time and files, and
// a clock outside that kills it. Without the base a stage does not run, unless
// the caller says so. Namespaces without a network and with other users come on
// top where the system lets us have them.
//
// Parent and child talk over two pipes: frames of JSON, a length of 4 bytes
// before each, bounded on both sides. How a child ended is an error of type
// *Failure; it never harms its parent.
//
// A program that has stages calls Main before all else.
package sandbox
