// Package corepattern gets the deaths of a host's processes from the kernel:
// through a socket (Linux 6.17), through a pipe handler, from a directory into
// which the kernel writes cores, or from what systemd-coredump stored.
//
// It owns /proc/sys/kernel/core_pattern and core_pipe_limit while it listens:
// the old values are kept in a file before they are changed, and come back
// when the listener stops, when its process is killed (a guardian child sees
// to that), or by Restore. It decides nothing about deaths and parses no
// memory. What nobody wants goes to the handler that was there before.
package corepattern
