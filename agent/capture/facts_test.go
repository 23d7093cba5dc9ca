package capture_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/capture"
)

const (
	id  = "3f1c8e0b5d9a4c7f8e2b6a1d0c9f7e5b4a3d2c1f0e9b8a7d6c5f4e3b2a1d0c9f"
	uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
)

// TestCgroupPaths has lines of /proc/PID/cgroup as runtimes and drivers make them.
func TestCgroupPaths(t *testing.T) {
	under := strings.ReplaceAll(uid, "-", "_")
	for _, tt := range []struct {
		name string
		text string
		want inquest.Facts
	}{
		{"service", "0::/system.slice/checkout.service\n", inquest.Facts{Cgroup: "/system.slice/checkout.service", Unit: "checkout.service"}},
		{"session", "0::/user.slice/user-1000.slice/session-3.scope\n", inquest.Facts{Cgroup: "/user.slice/user-1000.slice/session-3.scope", Unit: "session-3.scope"}},
		{"root", "0::/\n", inquest.Facts{Cgroup: "/"}},
		{"docker, cgroupfs", "12:memory:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n",
			inquest.Facts{Cgroup: "/docker/" + id, Container: id, Runtime: "docker"}},
		{"docker, systemd", "0::/system.slice/docker-" + id + ".scope\n",
			inquest.Facts{Cgroup: "/system.slice/docker-" + id + ".scope", Container: id, Runtime: "docker"}},
		{"docker in docker", "0::/docker/" + id + "/docker/" + strings.Repeat("ab", 32) + "\n",
			inquest.Facts{Cgroup: "/docker/" + id + "/docker/" + strings.Repeat("ab", 32), Container: strings.Repeat("ab", 32), Runtime: "docker"}},
		{"podman", "0::/machine.slice/libpod-" + id + ".scope/container\n",
			inquest.Facts{Cgroup: "/machine.slice/libpod-" + id + ".scope/container", Container: id, Runtime: "podman"}},
		{"podman of a user", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope\n",
			inquest.Facts{Cgroup: "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope", Container: id, Runtime: "podman"}},
		{"kubelet, systemd, containerd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope\n",
			inquest.Facts{Cgroup: "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-containerd-" + id + ".scope",
				Container: id, Runtime: "containerd", PodUID: uid, Pod: uid}},
		{"kubelet, systemd, guaranteed, crio", "0::/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope\n",
			inquest.Facts{Cgroup: "/kubepods.slice/kubepods-pod" + under + ".slice/crio-" + id + ".scope", Container: id, Runtime: "crio", PodUID: uid, Pod: uid}},
		{"kubelet, cgroupfs", "5:cpu,cpuacct:/kubepods/besteffort/pod" + uid + "/" + id + "\n4:memory:/kubepods/besteffort/pod" + uid + "/" + id + "\n",
			inquest.Facts{Cgroup: "/kubepods/besteffort/pod" + uid + "/" + id, Container: id, PodUID: uid, Pod: uid}},
		{"drivers that do not agree", "0::/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id + "\n",
			inquest.Facts{Cgroup: "/kubepods-burstable-pod" + under + ".slice:cri-containerd:" + id, Container: id, Runtime: "containerd", PodUID: uid, Pod: uid}},
		{"pod out of a file", "0::/kubepods/burstable/pod" + id[:32] + "/" + id + "\n",
			inquest.Facts{Cgroup: "/kubepods/burstable/pod" + id[:32] + "/" + id, Container: id, PodUID: id[:32], Pod: id[:32]}},
		{"both versions", "4:memory:/jobs/one\n0::/\n", inquest.Facts{Cgroup: "/jobs/one"}},
		{"kubelet's service in a container", "0::/kubelet.slice/kubelet.service\n", inquest.Facts{Cgroup: "/kubelet.slice/kubelet.service", Unit: "kubelet.service"}},
		{"garbage", "x\n0:\n\x00::/\xff\n0::relative\n", inquest.Facts{}},
		{"nearly an id", "0::/docker/" + id[:63] + "g\n", inquest.Facts{Cgroup: "/docker/" + id[:63] + "g"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := capture.ParseCgroup([]byte(tt.text))
			var got inquest.Facts
			g.Describe(&got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestContainer reads what runtimes keep of containers.
func TestContainer(t *testing.T) {
	const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	file := func(name, text string) fstest.MapFS {
		return fstest.MapFS{strings.ReplaceAll(name, "ID", id): {Data: []byte(text)}}
	}
	for _, tt := range []struct {
		name string
		fs   fstest.MapFS
		in   inquest.Facts
		want inquest.Facts
	}{
		{"containerd of Kubernetes", file("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json", `{"ociVersion":"1.1.0","annotations":{
			"io.kubernetes.cri.container-name":"checkout","io.kubernetes.cri.container-type":"container","io.kubernetes.cri.image-name":"registry.example/shop/checkout:v7",
			"io.kubernetes.cri.sandbox-id":"aa","io.kubernetes.cri.sandbox-name":"checkout-6d5f8b7c9-x2k4p","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"`+uid+`"}}`),
			inquest.Facts{Pod: uid, PodUID: uid},
			inquest.Facts{Runtime: "containerd", Pod: "checkout-6d5f8b7c9-x2k4p", PodUID: uid, Namespace: "shop", Image: "registry.example/shop/checkout:v7"}},
		{"containerd, image by digest", file("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json",
			`{"annotations":{"io.kubernetes.cri.image-name":"registry.example/shop/checkout@`+digest+`"}}`),
			inquest.Facts{Runtime: "containerd"}, inquest.Facts{Runtime: "containerd", Image: "registry.example/shop/checkout", ImageDigest: digest}},
		{"crio", file("run/containers/storage/overlay-containers/ID/userdata/config.json", `{"annotations":{
			"io.kubernetes.cri-o.ImageName":"registry.example/shop/cart:v2","io.kubernetes.cri-o.ImageRef":"registry.example/shop/cart@`+digest+`",
			"io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"`+uid+`"}}`),
			inquest.Facts{Runtime: "crio"}, inquest.Facts{Runtime: "crio", Pod: "cart-0", PodUID: uid, Namespace: "shop", Image: "registry.example/shop/cart:v2", ImageDigest: digest}},
		{"docker", file("var/lib/docker/containers/ID/config.v2.json", `{"ID":"`+id+`","Image":"`+digest+`","Config":{"Image":"shop/pay:v3","Labels":{"maintainer":"x"}}}`),
			inquest.Facts{}, inquest.Facts{Runtime: "docker", Image: "shop/pay:v3", ImageDigest: digest}},
		{"docker of Kubernetes", file("var/lib/docker/containers/ID/config.v2.json",
			`{"Config":{"Image":"shop/pay@`+digest+`","Labels":{"io.kubernetes.pod.name":"pay-1","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"`+uid+`"}}}`),
			inquest.Facts{}, inquest.Facts{Runtime: "docker", Pod: "pay-1", PodUID: uid, Namespace: "shop", Image: "shop/pay", ImageDigest: digest}},
		{"damaged", file("var/lib/docker/containers/ID/config.v2.json", `{"Config":`), inquest.Facts{Runtime: "docker"}, inquest.Facts{Runtime: "docker"}},
		{"nothing", fstest.MapFS{}, inquest.Facts{}, inquest.Facts{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.in
			got.Container, tt.want.Container = id, id
			capture.Container(tt.fs, &got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  string
		in   inquest.Facts
		want inquest.Facts
	}{
		{"told", "A=B\x00POD_NAME=checkout-0\x00POD_NAMESPACE=shop\x00", inquest.Facts{}, inquest.Facts{Pod: "checkout-0", Namespace: "shop"}},
		{"name of the host of a pod", "HOSTNAME=checkout-0\x00", inquest.Facts{Pod: uid, PodUID: uid}, inquest.Facts{Pod: "checkout-0", PodUID: uid}},
		{"name of any host", "HOSTNAME=node\x00", inquest.Facts{}, inquest.Facts{}},
		{"known better", "POD_NAME=x\x00POD_NAMESPACE=y\x00", inquest.Facts{Pod: "checkout-0", Namespace: "shop"}, inquest.Facts{Pod: "checkout-0", Namespace: "shop"}},
		{"not a name", "POD_NAME=a\xffb" + strings.Repeat("x", 1000), inquest.Facts{}, inquest.Facts{Pod: "a\uFFFDb" + strings.Repeat("x", 509)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.in
			capture.Environment([]byte(tt.env), &got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
