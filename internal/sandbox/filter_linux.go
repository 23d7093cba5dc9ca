package sandbox

import (
	"os"
	"runtime"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// allowed are the system calls that the Go runtime, its reading of files and
// pipes, and a C library below it need. None of them reaches another process,
// a network, or a file that is not open already.
func allowed() []string {
	names := []string{
		"brk", "clock_gettime", "clock_nanosleep", "close", "dup", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "eventfd2",
		"exit", "exit_group", "fstat", "futex", "getpid", "getppid", "getrandom", "getrusage", "gettid", "gettimeofday",
		"lseek", "madvise", "membarrier", "mincore", "mremap", "munmap", "nanosleep", "pipe2", "ppoll", "pread64", "preadv", "read", "readv",
		"restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list",
		"setitimer", "sigaltstack", "statx", "timer_create", "timer_delete", "timer_settime", "uname", "write", "writev",
		"clone3", // see noSuchCall
	}
	if runtime.GOARCH == "amd64" {
		return append(names, "arch_prctl", "epoll_wait", "newfstatat", "poll", "stat", "lstat", "time")
	}
	return append(names, "fstatat") // as the library of filters calls it there
}

const (
	writing   = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC | unix.O_APPEND
	isThread  = unix.CLONE_THREAD
	newSpaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
)

// allowedIf are those that are harmless with some arguments only.
func allowedIf() []seccomp.NameWithConditions {
	is := func(name string, conditions ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: conditions}
	}
	none := func(argument uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
	}
	some := func(argument uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.BitsSet, Value: bits}
	}
	out := []seccomp.NameWithConditions{
		is("openat", none(2, writing)), // Landlock says which
		is("mmap", none(2, unix.PROT_EXEC)),
		is("mprotect", none(2, unix.PROT_EXEC)),
		is("clone", some(0, isThread), none(0, newSpaces)),
		is("fcntl", seccomp.Condition{Argument: 1, Operation: seccomp.LessOrEqual, Value: unix.F_SETFL}), // others send signals to anybody
		is("fcntl", seccomp.Condition{Argument: 1, Operation: seccomp.Equal, Value: unix.F_DUPFD_CLOEXEC}),
		is("tgkill", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: uint64(os.Getpid())}),
	}
	if runtime.GOARCH == "amd64" {
		out = append(out, is("open", none(1, writing)))
	}
	return out
}
