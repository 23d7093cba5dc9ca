//go:build unix && !linux

package demo

import (
	"os/exec"
	"syscall"
)

// tie puts cmd into a process group of its own, so that Ctrl-C in a terminal
// reaches us alone and we end it in order.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// kill kills a started command and what it has started.
func kill(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
