package host_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/agent/host"
	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	tail := " 1 2 3 0 -1 4194304 97 0 0 0 0 0 0 0 20 0 1 0 172538 3133440 362"
	tests := []struct {
		name, in string
		want     host.Stat
		bad      bool
	}{
		{"plain", "17 (cat) S" + tail, host.Stat{Comm: "cat", Start: 172538}, false},
		{"name with parentheses", "17 (a) R (b) Z" + tail, host.Stat{Comm: "a) R (b", Start: 172538, Zombie: true}, false},
		{"kernel thread", "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0 0", host.Stat{Comm: "kthreadd", Start: 5, Kernel: true}, false},
		{"no name", "17 cat S" + tail, host.Stat{}, true},
		{"short", "17 (cat) S 1 2 3", host.Stat{}, true},
		{"empty", "", host.Stat{}, true},
	}
	for _, tt := range tests {
		got, err := host.ParseStat([]byte(tt.in))
		if errors.Is(err, inquest.ErrInvalid) != tt.bad {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", tt.name, d)
		}
	}
}

const tcpTable = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:8829 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 36826 1 00000000fddd3ebd 100 0 0 10 0
   1: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 54 1 0000 100 0 0 10 0
   2: 0100007F:8F95 0100007F:E6D2 01 00000000:00000000 03:0000162D 00000000     0        0 77 3 000000003b616d23
   3: garbage:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 55 1 0000 100 0 0 10 0
`

const tcp6Table = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 88 1 0000 100 0 0 10 0
   1: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 89 1 0000 100 0 0 10 0
   2: 0000000000000000FFFF00000100007F:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 90 1 0000 100 0 0 10 0
`

func TestParseListeners(t *testing.T) {
	want := []host.Listener{
		{Addr: netip.MustParseAddrPort("127.0.0.1:34857"), Inode: 36826},
		{Addr: netip.MustParseAddrPort("0.0.0.0:2024"), Inode: 54},
		{Addr: netip.MustParseAddrPort("[::]:8080"), Inode: 88},
		{Addr: netip.MustParseAddrPort("[::1]:8081"), Inode: 89},
		{Addr: netip.MustParseAddrPort("127.0.0.1:8082"), Inode: 90},
	}
	got := append(host.ParseListeners([]byte(tcpTable)), host.ParseListeners([]byte(tcp6Table))...)
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

func TestParseUnit(t *testing.T) {
	tests := []struct{ in, want string }{
		{"0::/system.slice/foo.service\n", "foo"},
		{"0::/system.slice/system-foo.slice/foo@1.service\n", "foo"},
		{"0::/system.slice/foo\\x2dbar.service\n", "foo-bar"},
		{"0::/system.slice/foo.service/worker\n", "foo"},
		{"9:name=systemd:/system.slice/old.service\n4:memory:/x/other.service\n0::/\n", "old"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.scope\n", ""},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n", "mine"},
		{"0::/user.slice/user-1000.slice/user@1000.service/init.scope\n", ""},
		{"0::/user.slice/user-1000.slice/user@1000.service\n", ""},
		{"0::/user.slice/user-1000.slice/session-3.scope\n", ""},
		{"0::/kubepods.slice/pod1.slice/cri-containerd-abc.scope\n", ""},
		{"0::/docker/0123\n", ""},
		{"", ""}, {"::\n", ""}, {"0::/.service\n", ""},
	}
	for _, tt := range tests {
		if got := host.ParseUnit([]byte(tt.in)); got != tt.want {
			t.Errorf("ParseUnit(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestParseServiceName(t *testing.T) {
	tests := []struct{ in, want string }{
		{"A=1\x00OTEL_SERVICE_NAME=checkout\x00B=2\x00", "checkout"},
		{"SERVICE_NAME=cart\x00OTEL_SERVICE_NAME=checkout\x00", "checkout"},
		{"SERVICE_NAME=cart\x00OTEL_SERVICE_NAME=\x00", "cart"},
		{"MY_SERVICE_NAME=no\x00X=SERVICE_NAME=no\x00", ""},
		{"SERVICE_NAME=bad\xff\x00", ""},
		{"", ""},
	}
	for _, tt := range tests {
		if got := host.ParseServiceName([]byte(tt.in)); got != tt.want {
			t.Errorf("ParseServiceName(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestProgramName(t *testing.T) {
	tests := []struct{ path, exe, want string }{
		{"example.com/shop/cmd/cart", "/usr/bin/x", "cart"},
		{"github.com/nats-io/nats-server/v2", "/usr/bin/x", "nats-server"},
		{"example.com/v1", "/usr/bin/x", "v1"},
		{"command-line-arguments", "/tmp/go-build1/exe/main", "main"},
		{"", "/usr/bin/tool", "tool"},
		{"cart", "/x", "cart"},
	}
	for _, tt := range tests {
		if got := host.ProgramName(tt.path, tt.exe); got != tt.want {
			t.Errorf("ProgramName(%q, %q) = %q, want %q", tt.path, tt.exe, got, tt.want)
		}
	}
}

func FuzzProcFiles(f *testing.F) {
	f.Add([]byte("17 (a) R (b) Z 1 2 3 0 -1 4194304 97 0 0 0 0 0 0 0 20 0 1 0 172538 3133440 362"))
	f.Add([]byte(tcpTable))
	f.Add([]byte(tcp6Table))
	f.Add([]byte("0::/system.slice/foo\\x2dbar.service\n"))
	f.Add([]byte("SERVICE_NAME=cart\x00OTEL_SERVICE_NAME=checkout\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := host.ParseStat(data); err != nil && !errors.Is(err, inquest.ErrInvalid) {
			t.Errorf("error of another kind: %v", err)
		}
		for _, l := range host.ParseListeners(data) {
			if !l.Addr.IsValid() || l.Inode == 0 {
				t.Errorf("listener %+v", l)
			}
		}
		for _, name := range []string{host.ParseUnit(data), host.ParseServiceName(data)} {
			if name != "" && inquest.ValidateLabel(inquest.LabelService, name) != nil {
				t.Errorf("%q cannot be a service", name)
			}
		}
		host.ParseSocket(string(data))
		host.ProgramName(string(data), string(data))
	})
}
