package capture

import (
	"bytes"
	"path"
	"strings"

	"github.com/goinquest/inquest"
)

// deletedSuffix is what the kernel puts behind the name of what is gone.
const deletedSuffix = " (deleted)"

// Cgroup is where a process stands among the host's groups.
type Cgroup struct {
	Unified     string            // path in the hierarchy of version 2, "" if there is none
	Controllers map[string]string // paths in those of version 1: "memory", "cpu", "name=systemd", …
}

// ParseCgroup reads /proc/PID/cgroup (cgroups(7)). Lines it cannot read are
// left out.
func ParseCgroup(data []byte) Cgroup {
	g := Cgroup{Controllers: map[string]string{}}
	for line := range bytes.Lines(data) {
		f := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			continue
		}
		p := path.Clean(strings.TrimSuffix(f[2], deletedSuffix))
		if f[0] == "0" && f[1] == "" {
			g.Unified = p
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			g.Controllers[c] = p
		}
	}
	return g
}

// Path is the one that says most: where hosts have both versions, the second
// may have no controllers and everything at its root.
func (g *Cgroup) Path() string {
	for _, p := range []string{g.Unified, g.Controllers["memory"], g.Controllers["name=systemd"], g.Controllers["cpu"]} {
		if p != "" && p != "/" {
			return p
		}
	}
	return g.Unified
}

// Names of scopes and directories by which container runtimes are known.
var scopes = []struct{ prefix, runtime string }{
	{"docker-", "docker"},
	{"cri-containerd-", "containerd"},
	{"nerdctl-", "containerd"},
	{"crio-", "crio"},
	{"libpod-payload-", "podman"},
	{"libpod-", "podman"},
}

// parents are directories whose children are containers.
var parents = map[string]string{
	"docker": "docker", "libpod_parent": "podman", "machine.slice": "podman",
}

// Describe fills in what the path of a group says: container, runtime, pod
// and unit.
func (g *Cgroup) Describe(f *inquest.Facts) {
	f.Cgroup = clip(g.Path())
	elements := strings.Split(f.Cgroup, "/")
	for i := len(elements) - 1; i >= 0; i-- {
		e := elements[i]
		if f.Container == "" {
			f.Container, f.Runtime = containerOf(e)
			if f.Container != "" && f.Runtime == "" && i > 0 {
				f.Runtime = parents[elements[i-1]]
			}
		}
		if f.PodUID == "" {
			f.PodUID = podOf(e)
		}
		if f.Unit == "" && f.Container == "" && (strings.HasSuffix(e, ".service") || strings.HasSuffix(e, ".scope")) {
			f.Unit = e
		}
	}
	f.Pod = f.PodUID
}

// containerOf reads a container's id out of one element of a path. A plain id
// does not say which runtime it is of.
func containerOf(e string) (id, runtime string) {
	e = strings.TrimSuffix(e, ".scope")
	if i := strings.LastIndexByte(e, ':'); i >= 0 { // slice:cri-containerd:id, where the two drivers met
		if runtime = strings.TrimPrefix(e[strings.LastIndexByte(e[:i], ':')+1:i], "cri-"); runtime == "crio" || runtime == "containerd" {
			e = e[i+1:]
		}
	}
	for _, s := range scopes {
		if rest, ok := strings.CutPrefix(e, s.prefix); ok {
			e, runtime = rest, s.runtime
			break
		}
	}
	if !isHex(e, 64) {
		return "", ""
	}
	return e, runtime
}

// podOf reads a pod's uid out of one element of a path.
func podOf(e string) string {
	e, _, _ = strings.Cut(e, ":")
	if name, ok := strings.CutSuffix(e, ".slice"); ok {
		i := strings.LastIndex(name, "-pod")
		if i < 0 {
			return ""
		}
		// systemd's slices have their own use for hyphens.
		return uid(strings.ReplaceAll(name[i+len("-pod"):], "_", "-"))
	}
	rest, ok := strings.CutPrefix(e, "pod")
	if !ok {
		return ""
	}
	return uid(rest)
}

// uid returns s if it is the uid of a pod: a UUID, or of pods out of files a
// hash in hex.
func uid(s string) string {
	if len(s) == 36 && isHex(strings.ReplaceAll(s, "-", ""), 32) || isHex(s, 32) {
		return s
	}
	return ""
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// maxFact bounds every string that others may choose.
const maxFact = 512

// clip makes a string of a process's fit to be told.
func clip(s string) string {
	if len(s) > maxFact {
		s = s[:maxFact]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
