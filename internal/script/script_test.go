// Package script tests the project's programs whole, as scripts (see
// testdata), and runs what the documentation says can be run.
package script

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/goinquest/inquest/internal/corpus"
	"github.com/goinquest/inquest/internal/proc"
)

var update = flag.Bool("update", false, "rewrite the parts of the documentation that are output of the programs")

// programs is the directory that has the programs under test.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "inquest-script-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	for _, name := range []string{"collector", "agent", "inquest"} {
		if err := proc.Build(context.Background(), filepath.Join(dir, name), "github.com/goinquest/inquest/cmd/"+name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

func TestScripts(t *testing.T) {
	goEnv := goEnvironment(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", programs+string(filepath.ListSeparator)+e.Getenv("PATH"))
			e.Setenv("PROGRAMS", programs)
			e.Setenv("HOME", e.WorkDir)
			for _, kv := range goEnv {
				k, v, _ := strings.Cut(kv, "=")
				e.Setenv(k, v)
			}
			return writeCorpus(e.WorkDir)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"port":   cmdPort,
			"http":   cmdHTTP,
			"poll":   cmdPoll,
			"signal": cmdSignal,
			"gone":   cmdGone,
			"await":  cmdAwait,
		},
	})
}

// goEnvironment is what a go command needs in a script's environment.
func goEnvironment(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	v := strings.Fields(string(out))
	if len(v) != 3 {
		t.Fatalf("go env printed %q", out)
	}
	return []string{"GOCACHE=" + v[0], "GOMODCACHE=" + v[1], "GOPATH=" + v[2], "GOFLAGS=-buildvcs=false"}
}

// writeCorpus puts one real body of each kind beside the scripts, as
// cpu.pb.gz and so on.
func writeCorpus(dir string) error {
	for _, kind := range corpus.Kinds {
		if err := os.WriteFile(filepath.Join(dir, kind+".pb.gz"), corpus.Load(kind)[0].Data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// cmdPort: port NAME sets a variable to the address of a free port.
func cmdPort(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: port NAME")
	}
	addr, err := proc.FreeAddr()
	ts.Check(err)
	ts.Setenv(args[0], addr)
}

// client trusts any certificate: the scripts make their own.
var client = &http.Client{
	Timeout:   20 * time.Second,
	Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
}

// request makes the request an http or poll command describes: options
// -status N, -token T, -body FILE, -json TEXT, then the URL.
func request(ts *testscript.TestScript, args []string) (body []byte, status int, want int, err error) {
	want = http.StatusOK
	fs := flag.NewFlagSet("http", flag.ContinueOnError)
	fs.IntVar(&want, "status", want, "")
	token := fs.String("token", "", "")
	file := fs.String("body", "", "")
	text := fs.String("json", "", "")
	ts.Check(fs.Parse(args))
	if fs.NArg() != 1 {
		ts.Fatalf("usage: http [-status N] [-token T] [-body FILE] [-json TEXT] URL")
	}
	method, in := http.MethodGet, io.Reader(nil)
	if *file != "" {
		method, in = http.MethodPost, strings.NewReader(ts.ReadFile(*file))
	}
	if *text != "" {
		method, in = http.MethodPost, strings.NewReader(*text)
	}
	req, err := http.NewRequest(method, fs.Arg(0), in)
	ts.Check(err)
	if *text != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if *token != "" {
		req.Header.Set("Authorization", "Bearer "+*token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, want, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return body, resp.StatusCode, want, err
}

// cmdHTTP: http [options] URL makes a request and writes the answer to stdout.
func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	body, status, want, err := request(ts, args)
	if neg {
		if err == nil {
			ts.Fatalf("answered with status %d", status)
		}
		return
	}
	ts.Check(err)
	_, _ = ts.Stdout().Write(body)
	if status != want {
		ts.Fatalf("status %d, want %d: %s", status, want, body)
	}
}

// cmdPoll: poll SECONDS REGEXP [options] URL repeats a request until the
// answer matches.
func cmdPoll(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: poll DURATION REGEXP [options] URL")
	}
	bound, err := time.ParseDuration(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	var last string
	for began := time.Now(); time.Since(began) < bound; time.Sleep(100 * time.Millisecond) {
		body, status, want, err := request(ts, args[2:])
		if err == nil && status == want && pattern.Match(body) {
			_, _ = ts.Stdout().Write(body)
			return
		}
		last = fmt.Sprintf("status %d, %v: %.2000s", status, err, body)
	}
	ts.Fatalf("no answer matched %q within %v; the last one: %s", args[1], bound, last)
}

// cmdSignal: signal TERM|INT|HUP|KILL PROGRAM signals background programs.
func cmdSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL PROGRAM")
	}
	sent := 0
	for _, cmd := range ts.BackgroundCmds() {
		if filepath.Base(cmd.Path) == args[1] && cmd.Process.Signal(signals[args[0]]) == nil {
			sent++
		}
	}
	if sent == 0 {
		ts.Fatalf("no %s runs", args[1])
	}
}

// cmdGone: gone TEXT waits until no process has TEXT in its command line or
// environment. Linux only.
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: gone TEXT")
	}
	var left []string
	for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(50 * time.Millisecond) {
		if left = processesWith(args[0]); len(left) == 0 || neg {
			break
		}
	}
	if len(left) > 0 != neg {
		ts.Fatalf("processes with %q: %q", args[0], left)
	}
}

func processesWith(text string) []string {
	var out []string
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		cmdline, _ := os.ReadFile(file)
		environ, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "environ"))
		if bytes.Contains(cmdline, []byte(text)) || bytes.Contains(environ, []byte(text)) {
			out = append(out, filepath.Base(filepath.Dir(file))+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
	return out
}

// cmdAwait: await SECONDS ADDRESS waits until something listens there.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: await ADDRESS")
	}
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", args[0]); err == nil {
			conn.Close()
			return
		}
	}
	ts.Fatalf("nothing listens on %s", args[0])
}
