package crashtext

import (
	"path/filepath"
	"strings"

	"github.com/goinquest/inquest"
)

// containerOfLog reads the names of container logs: those that kubelet links,
// NAME_NAMESPACE_CONTAINER-ID.log, and those of Docker, ID/ID-json.log. nil if
// it is the name of neither.
func containerOfLog(path string) *inquest.Facts {
	base := filepath.Base(path)
	if id, ok := strings.CutSuffix(base, "-json.log"); ok && isContainerID(id) {
		return &inquest.Facts{Container: id, Runtime: "docker"}
	}
	name, ok := strings.CutSuffix(base, ".log")
	parts := strings.Split(name, "_")
	if !ok || len(parts) != 3 || len(parts[2]) < 66 {
		return nil
	}
	container, id := parts[2][:len(parts[2])-65], parts[2][len(parts[2])-64:]
	if !isContainerID(id) || container == "" {
		return nil
	}
	return &inquest.Facts{Container: id, Pod: parts[0], Namespace: parts[1]}
}

// serviceOfLog is what to call what writes a log: its container, else the name
// of the file.
func serviceOfLog(path string) string {
	name := strings.TrimSuffix(filepath.Base(path), ".log")
	if facts := containerOfLog(path); facts != nil {
		if facts.Pod != "" {
			parts := strings.Split(name, "_")
			name = parts[2][:len(parts[2])-65]
		} else {
			name = facts.Container[:12]
		}
	}
	if inquest.ValidateLabel(inquest.LabelService, name) != nil || name == "" {
		return "unnamed"
	}
	return name
}

func isContainerID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// containerIn finds the id of a container in /proc/PID/cgroup.
func containerIn(cgroup string) string {
	run := 0
	for i := 0; i < len(cgroup); i++ {
		c := cgroup[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'f' {
			if run++; run == 64 && (i+1 == len(cgroup) || !isHexByte(cgroup[i+1])) {
				return cgroup[i-63 : i+1]
			}
			continue
		}
		run = 0
	}
	return ""
}

func isHexByte(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
