package proc

import "syscall"

// endWithParent lets the kernel end the child when the thread that started
// it dies, so that a killed test leaves nothing running.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
