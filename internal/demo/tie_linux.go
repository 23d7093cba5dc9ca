package demo

import (
	"os/exec"
	"syscall"
)

// tie puts cmd into a process group of its own, so that Ctrl-C in a terminal
// reaches us alone and we end it in order, and has the kernel kill it when the
// thread that starts it ends.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// kill kills a started command and what it has started.
func kill(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
