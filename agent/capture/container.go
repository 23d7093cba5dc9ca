package capture

import (
	"encoding/json"
	"io"
	"io/fs"
	"strings"

	"github.com/goinquest/inquest"
)

// maxConfigBytes bounds what is read of a container's configuration.
const maxConfigBytes = 1 << 20

// Where runtimes keep what they know of a container; ID stands for its id.
const (
	dockerConfig     = "var/lib/docker/containers/ID/config.v2.json"
	containerdBundle = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json"
	containerdMoby   = "run/containerd/io.containerd.runtime.v2.task/moby/ID/config.json"
	crioBundle       = "run/containers/storage/overlay-containers/ID/userdata/config.json"
	podmanBundle     = "var/lib/containers/storage/overlay-containers/ID/userdata/config.json"
)

// Container fills in what the host's files say of the container f.Container:
// pod, namespace and image. host is the host's root directory. What is not
// there is left as it is.
func Container(host fs.FS, f *inquest.Facts) {
	if !isHex(f.Container, 64) {
		return
	}
	name := func(pattern string) string { return strings.Replace(pattern, "ID", f.Container, 1) }
	for _, pattern := range []string{containerdBundle, crioBundle, podmanBundle} {
		if readBundle(host, name(pattern), f) {
			return
		}
	}
	if readDocker(host, name(dockerConfig), f) {
		return
	}
	if _, err := fs.Stat(host, name(containerdMoby)); err == nil && f.Runtime == "" {
		f.Runtime = "docker"
	}
}

// readBundle reads the configuration of an OCI runtime, in which Kubernetes'
// ones say what they run.
func readBundle(host fs.FS, name string, f *inquest.Facts) bool {
	var bundle struct {
		Annotations map[string]string `json:"annotations"`
	}
	if !readJSON(host, name, &bundle) {
		return false
	}
	first := func(keys ...string) string {
		for _, k := range keys {
			if v := bundle.Annotations[k]; v != "" {
				return v
			}
		}
		return ""
	}
	setFact(&f.Pod, first("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"))
	setFact(&f.Namespace, first("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"))
	setFact(&f.PodUID, first("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"))
	setImage(f, first("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName", "io.kubernetes.cri-o.Image"))
	setImage(f, bundle.Annotations["io.kubernetes.cri-o.ImageRef"])
	if f.Runtime == "" {
		switch {
		case strings.HasPrefix(name, "run/containerd/"):
			f.Runtime = "containerd"
		case first("io.kubernetes.cri-o.ContainerID", "io.kubernetes.cri-o.ImageName") != "":
			f.Runtime = "crio"
		default:
			f.Runtime = "podman"
		}
	}
	return true
}

// readDocker reads what the Docker engine keeps of a container.
func readDocker(host fs.FS, name string, f *inquest.Facts) bool {
	var c struct {
		Image  string // its id
		Config struct {
			Image  string
			Labels map[string]string
		}
	}
	if !readJSON(host, name, &c) {
		return false
	}
	f.Runtime = "docker"
	setFact(&f.Pod, c.Config.Labels["io.kubernetes.pod.name"])
	setFact(&f.Namespace, c.Config.Labels["io.kubernetes.pod.namespace"])
	setFact(&f.PodUID, c.Config.Labels["io.kubernetes.pod.uid"])
	setImage(f, c.Config.Image)
	if f.ImageDigest == "" && strings.HasPrefix(c.Image, "sha256:") {
		f.ImageDigest = clip(c.Image)
	}
	return true
}

// setImage takes a reference to an image apart: name:tag@digest.
func setImage(f *inquest.Facts, ref string) {
	name, digest, _ := strings.Cut(ref, "@")
	if strings.HasPrefix(name, "sha256:") {
		name, digest = "", name
	}
	if f.Image == "" {
		f.Image = clip(name)
	}
	if f.ImageDigest == "" {
		f.ImageDigest = clip(digest)
	}
}

func setFact(to *string, v string) {
	if v != "" {
		*to = clip(v)
	}
}

func readJSON(host fs.FS, name string, v any) bool {
	file, err := host.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxConfigBytes))
	return err == nil && json.Unmarshal(data, v) == nil
}

// Names of variables that say what a pod is; nothing else of a process's
// environment is looked at.
const (
	envPod          = "POD_NAME"
	envPodNamespace = "POD_NAMESPACE"
	envHostname     = "HOSTNAME" // in a pod, its name
)

// Environment fills in what a process's environment says of its pod
// (/proc/PID/environ), where the host's files did not.
func Environment(environ []byte, f *inquest.Facts) {
	get := func(name string) string {
		for entry := range strings.SplitSeq(string(environ), "\x00") {
			if v, ok := strings.CutPrefix(entry, name+"="); ok {
				return v
			}
		}
		return ""
	}
	if f.Pod == "" || f.Pod == f.PodUID {
		setFact(&f.Pod, get(envPod))
	}
	if f.PodUID != "" && f.Pod == f.PodUID {
		setFact(&f.Pod, get(envHostname))
	}
	if f.Namespace == "" {
		setFact(&f.Namespace, get(envPodNamespace))
	}
}
