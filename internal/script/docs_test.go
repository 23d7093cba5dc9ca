package script

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/goinquest/inquest/internal/proc"
)

// root is the top of the repository, seen from this package.
const root = "../.."

// pages are the documentation whose commands are run.
var pages = []string{"README.md", "docs/use.md", "docs/operate.md", "docs/sizing.md", "docs/api.md", "docs/capture.md", "docs/crashes.md"}

// elsewhere are the commands that another test runs, and which.
var elsewhere = map[string]string{
	"go run ./cmd/collector -demo": "testdata/demo.txt",
	"go test ./...":                "this is part of it",
}

// block is one fenced block of a page.
type block struct {
	language string
	mark     string // the comment in the line before: "output of: agent -help"
	text     string
	line     int // of the fence, from 1
}

var markLine = regexp.MustCompile(`^<!-- (.*) -->$`)

func blocks(t *testing.T, page string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	var open *block
	last := ""
	for i, line := range strings.Split(string(data), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case open == nil && isFence:
			open = &block{language: fence, line: i + 1}
			if m := markLine.FindStringSubmatch(last); m != nil {
				open.mark = m[1]
			}
		case open != nil && isFence:
			out = append(out, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
		last = line
	}
	if open != nil {
		t.Fatalf("%s:%d: block without end", page, open.line)
	}
	return out
}

// TestDocumentationRuns runs every command in the sh blocks of a page, in
// order, in one shell. What changes a system is marked console and only shown.
func TestDocumentationRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("runs whole programs for some seconds a page")
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			shown := 0
			var commands strings.Builder
			for _, b := range blocks(t, page) {
				switch b.language {
				case "console":
					shown++
				case "sh":
					for line := range strings.Lines(b.text) {
						if elsewhere[strings.TrimSpace(line)] == "" {
							commands.WriteString(line)
						}
					}
				}
			}
			if shown > 1 {
				t.Errorf("%d blocks are only shown; run what can be run", shown)
			}
			runPage(t, commands.String())
		})
	}
}

// runPage runs commands as a reader would: in a directory with a CPU profile
// and the programs in bin, beside a collector if they do not start one.
func runPage(t *testing.T, commands string) {
	dir := t.TempDir()
	addr, err := proc.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	writeCPUProfile(t, filepath.Join(dir, "cpu.pb.gz"))
	starts := strings.Contains(commands, "bin/collector -listen")
	if !strings.Contains(commands, "go build") {
		if err := os.Symlink(programs, filepath.Join(dir, "bin")); err != nil {
			t.Fatal(err)
		}
	}
	absolute, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	ready := "until curl -fs http://127.0.0.1:7070/readyz; do sleep 0.1; done\n"
	script := "set -euo pipefail\ntrap 'kill $(jobs -p) && wait || true' EXIT\n"
	if !starts {
		script += "'" + programs + "/collector' -listen 127.0.0.1:7070 -data ./data &\n" + ready
		script += "until curl -fs http://127.0.0.1:7070/api/v1/services | grep -q inquest-collector; do sleep 0.1; done\n"
	}
	script += "set -x\n"
	for line := range strings.Lines(commands) {
		script += line
		if strings.HasPrefix(line, "bin/collector ") && strings.HasSuffix(strings.TrimSpace(line), "&") {
			script += "set +x; " + ready + "set -x\n"
		}
	}
	script = strings.ReplaceAll(script, "127.0.0.1:7070", addr)
	script = strings.ReplaceAll(script, "go build ", "go build -C '"+absolute+"' ")
	script = strings.ReplaceAll(script, "-o bin/ ", "-o '"+dir+"/bin/' ")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it stops what it has started
	cmd.Dir = dir
	// The core pattern is of the whole machine, and no page is about changing it.
	cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir, "HOME="+dir, "INQUEST_CAPTURE_CRASHES=false")
	cmd.Env = append(cmd.Env, goEnvironment(t)...)
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// writeCPUProfile takes a profile of this test.
func writeCPUProfile(t *testing.T, name string) {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.StartCPUProfile(&b); err != nil {
		// Another page is taking one; the profile is of the same process.
		time.Sleep(300 * time.Millisecond)
		writeCPUProfile(t, name)
		return
	}
	for began := time.Now(); time.Since(began) < 200*time.Millisecond; {
		_ = bytes.Repeat([]byte("busy"), 1000)
	}
	pprof.StopCPUProfile()
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

var link = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestDocumentationLinks follows the links between the pages.
func TestDocumentationLinks(t *testing.T) {
	for _, page := range append([]string{"ARCHITECTURE.md", "CHANGELOG.md"}, pages...) {
		data, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllSubmatch(data, -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), string(m[1]))); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			}
		}
	}
}

// TestDocumentationOutput compares blocks that say they are the output of a
// program with what it writes; -update rewrites them.
func TestDocumentationOutput(t *testing.T) {
	seen := 0
	for _, page := range pages {
		for _, b := range blocks(t, page) {
			line, ok := strings.CutPrefix(b.mark, "output of: ")
			if !ok {
				continue
			}
			seen++
			args := strings.Fields(line)
			cmd := exec.Command(filepath.Join(programs, args[0]), args[1:]...)
			got, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if *update {
				replace(t, page, b, string(got))
			} else if diff := cmp.Diff(string(got), b.text); diff != "" {
				t.Errorf("%s:%d is not the output of %s; run go test ./internal/script -update (-program +page):\n%s", page, b.line, line, diff)
			}
		}
	}
	if seen == 0 {
		t.Error("no page shows the output of a program")
	}
}

func replace(t *testing.T, page string, b block, text string) {
	t.Helper()
	name := filepath.Join(root, page)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	mark := "<!-- " + b.mark + " -->\n```" + b.language + "\n"
	before, after, ok := strings.Cut(string(data), mark+b.text)
	if !ok {
		t.Fatalf("%s: block %q not found", page, b.mark)
	}
	if err := os.WriteFile(name, []byte(before+mark+text+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDocumentationConfiguration starts the programs with the configuration
// files the pages show.
func TestDocumentationConfiguration(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir)
	checked := map[string]bool{}
	for _, page := range pages {
		for _, b := range blocks(t, page) {
			program, ok := strings.CutPrefix(b.mark, "check: ")
			if !ok {
				continue
			}
			checked[program] = true
			text := strings.NewReplacer("/etc/inquest", dir, "/var/lib/inquest", dir+"/data", "0.0.0.0:7070", "127.0.0.1:0").Replace(b.text)
			file := filepath.Join(dir, program+".yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if program == "agent" {
				if out, err := exec.Command(filepath.Join(programs, program), "targets", "-config", file).CombinedOutput(); err != nil {
					t.Errorf("%s:%d: %v\n%s", page, b.line, err, out)
				}
				continue
			}
			startAndStop(t, fmt.Sprintf("%s:%d", page, b.line), program,
				"-config", file, "-self-profile=false", "-listen", "127.0.0.1:0", "-data", filepath.Join(dir, "data"))
		}
	}
	if !checked["collector"] || !checked["agent"] {
		t.Errorf("configuration files of both programs must be shown and checked; checked are %v", checked)
	}
}

// startAndStop runs a program until it says that it serves.
func startAndStop(t *testing.T, where, program string, args ...string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := proc.Start(w, nil, filepath.Join(programs, program), args...)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	var out []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(out, []byte("serving http")) {
		n, err := r.Read(buf)
		out = append(out, buf[:n]...)
		if err != nil {
			t.Fatalf("%s: %s ended: %s", where, program, out)
		}
	}
	if err := p.Stop(20 * time.Second); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

// writeCertificate makes cert.pem and key.pem for 127.0.0.1.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
