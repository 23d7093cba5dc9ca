// Package crashtext takes what processes of this host write when they die. A
// Receiver listens at the unix socket that programs with package client mirror
// their crash text to; a Watcher reads log files, the logs of containers and
// the journal. A Joiner puts together what both have of one process, and tells
// it.
//
// Whoever writes is not trusted: a text is bounded, and so are all texts at
// once; what exceeds that is read, so that no dying process has to wait, and
// counted. Which process a text is of is asked the kernel, never the text.
package crashtext
