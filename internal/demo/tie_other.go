//go:build !unix

package demo

import "os/exec"

func tie(*exec.Cmd) {}

// kill kills a started command.
func kill(cmd *exec.Cmd) { cmd.Process.Kill() }
