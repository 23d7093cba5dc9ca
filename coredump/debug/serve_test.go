package debug_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-dap"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/coredump/debug"
	"github.com/goinquest/inquest/internal/sandbox"
	"github.com/goinquest/inquest/internal/testprog"
)

// served is a headless debugger that a test is the client of.
type served struct {
	net.Conn
	err chan error

	mu       sync.Mutex
	accesses []debug.Access
}

func (s *served) audit(a debug.Access) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accesses = append(s.accesses, a)
}

// saw says whether account was kept of something.
func (s *served) saw(want debug.Access) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.accesses, want)
}

func serve(t *testing.T, o debug.Options) *served {
	t.Helper()
	confined(t)
	exe, core := crash(t, unoptimized, "-kind=panic", "-goroutines=300", "-http=127.0.0.1:0")
	o.Exe, o.Core = open(t, exe), open(t, core)
	client, server := net.Pipe()
	s := &served{Conn: client, err: make(chan error, 1)}
	go func() { s.err <- debug.Serve(t.Context(), server, o, s.audit) }()
	t.Cleanup(func() { client.Close() })
	return s
}

func (s *served) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.err:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it still serves")
		return nil
	}
}

func TestDlvConnects(t *testing.T) {
	confined(t)
	exe, core := crash(t, unoptimized, "-kind=panic", "-goroutines=300", "-http=127.0.0.1:0")
	socket := filepath.Join(t.TempDir(), "dlv")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &served{err: make(chan error, 1)}
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = debug.Serve(t.Context(), conn, debug.Options{Exe: open(t, exe), Core: open(t, core)}, s.audit)
		}
		s.err <- err
	}()
	commands := []string{"goroutines", "goroutine 1", "bt", "frame 9", "print 40+2", "regs", "continue", "break main.main", "call main.kinds()", "dump /tmp/inquest-dumped", "libraries", "sources main.go", "exit"}
	init := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(init, []byte(strings.Join(commands, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "tool", "-modfile=../../tools/go.mod", "dlv", "connect", "unix:"+socket, "--init", init, "--allow-non-terminal-interactive=true")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOCACHE="+goEnv(t, "GOCACHE"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("dlv: %v", err)
	}
	for _, want := range []string{"main.waiter", "main.explicit", "runtime.gopanic", "42", "Rip = "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("dlv did not print %q", want)
		}
	}
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
	if !s.saw(debug.Access{Protocol: "dlv", Verb: "Eval", Expression: "40+2"}) ||
		!s.saw(debug.Access{Protocol: "dlv", Verb: "DumpStart", Refused: "not allowed on a stored core"}) ||
		!s.saw(debug.Access{Protocol: "dlv", Verb: "Command", Refused: `the process is dead, it cannot do "continue"`}) {
		t.Errorf("accesses %+v", s.accesses)
	}
	if _, err := os.Stat("/tmp/inquest-dumped"); err == nil {
		t.Error("a dump was written")
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// editor is a client of DAP.
type editor struct {
	t   *testing.T
	s   *served
	in  *bufio.Reader
	seq int
}

// ask sends a request and returns its answer.
func (e *editor) ask(m dap.RequestMessage) dap.Message {
	e.t.Helper()
	e.seq++
	r := m.GetRequest()
	r.Seq, r.Type = e.seq, "request"
	if err := dap.WriteProtocolMessage(e.s, m); err != nil {
		e.t.Fatal(err)
	}
	for {
		got, err := dap.ReadProtocolMessage(e.in)
		if err != nil {
			e.t.Fatalf("%s: %v", r.Command, err)
		}
		if a, ok := got.(dap.ResponseMessage); ok && a.GetResponse().RequestSeq == e.seq {
			return got
		}
	}
}

func request(command string) dap.Request { return dap.Request{Command: command} }

func attached(t *testing.T, s *served) *editor {
	t.Helper()
	e := &editor{t: t, s: s, in: bufio.NewReader(s)}
	if _, ok := e.ask(&dap.InitializeRequest{Request: request("initialize"), Arguments: dap.InitializeRequestArguments{AdapterID: "go", PathFormat: "path", LinesStartAt1: true, ColumnsStartAt1: true}}).(*dap.InitializeResponse); !ok {
		t.Fatal("not initialized")
	}
	args := json.RawMessage(`{"mode":"remote","substitutePath":[{"from":"/home/me","to":""}],"stopOnEntry":false}`)
	if got, ok := e.ask(&dap.AttachRequest{Request: request("attach"), Arguments: args}).(*dap.AttachResponse); !ok {
		t.Fatalf("not attached: %+v", got)
	}
	if _, ok := e.ask(&dap.ConfigurationDoneRequest{Request: request("configurationDone")}).(*dap.ConfigurationDoneResponse); !ok {
		t.Fatal("not configured")
	}
	return e
}

func TestEditorAttaches(t *testing.T) {
	s := serve(t, debug.Options{})
	e := attached(t, s)
	threads := e.ask(&dap.ThreadsRequest{Request: request("threads")}).(*dap.ThreadsResponse).Body.Threads
	if len(threads) < 300 {
		t.Errorf("%d threads", len(threads))
	}
	stack := e.ask(&dap.StackTraceRequest{Request: request("stackTrace"), Arguments: dap.StackTraceArguments{ThreadId: 1}}).(*dap.StackTraceResponse).Body.StackFrames
	at := slices.IndexFunc(stack, func(f dap.StackFrame) bool { return f.Name == "main.explicit" })
	if at < 0 {
		t.Fatalf("stack %+v", stack)
	}
	scopes := e.ask(&dap.ScopesRequest{Request: request("scopes"), Arguments: dap.ScopesArguments{FrameId: stack[at].Id}}).(*dap.ScopesResponse).Body.Scopes
	if len(scopes) == 0 || scopes[0].Name != "Locals" {
		t.Fatalf("scopes %+v", scopes)
	}
	locals := e.ask(&dap.VariablesRequest{Request: request("variables"), Arguments: dap.VariablesArguments{VariablesReference: scopes[0].VariablesReference}}).(*dap.VariablesResponse).Body.Variables
	if len(locals) != 1 || locals[0].Name != "r" || !strings.HasPrefix(locals[0].Value, "*main.request {") {
		t.Errorf("locals %+v", locals)
	}
	value := e.ask(&dap.EvaluateRequest{Request: request("evaluate"), Arguments: dap.EvaluateArguments{Expression: "r.count", FrameId: stack[at].Id, Context: "repl"}})
	if v, ok := value.(*dap.EvaluateResponse); !ok || v.Body.Result != "9" || !s.saw(debug.Access{Protocol: "dap", Verb: "evaluate", Expression: "r.count"}) {
		t.Errorf("evaluate %+v, accesses %+v", value, s.accesses)
	}
	for _, m := range []dap.RequestMessage{
		&dap.LaunchRequest{Request: request("launch"), Arguments: json.RawMessage(`{"mode":"exec","program":"/bin/true"}`)},
		&dap.AttachRequest{Request: request("attach"), Arguments: json.RawMessage(`{"mode":"local","processId":1}`)},
		&dap.AttachRequest{Request: request("attach"), Arguments: json.RawMessage(`{"mode":"remote","Mode":"local","processId":1}`)},
		&dap.ContinueRequest{Request: request("continue"), Arguments: dap.ContinueArguments{ThreadId: 1}},
		&dap.SetVariableRequest{Request: request("setVariable")},
		&dap.WriteMemoryRequest{Request: request("writeMemory")},
		&dap.EvaluateRequest{Request: request("evaluate"), Arguments: dap.EvaluateArguments{Expression: " call\tmain.kinds()", Context: "repl"}},
		&dap.EvaluateRequest{Request: request("evaluate"), Arguments: dap.EvaluateArguments{Expression: "dlv target follow-exec -on", Context: "repl"}},
		&dap.TerminateRequest{Request: request("terminate")},
	} {
		if got, ok := e.ask(m).(*dap.ErrorResponse); !ok || got.Body.Error == nil || got.Body.Error.Id != 9800 {
			t.Errorf("%s was not refused: %+v", m.GetRequest().Command, got)
		}
	}
	if !s.saw(debug.Access{Protocol: "dap", Verb: "launch", Refused: "nothing can be launched; attach with mode remote"}) {
		t.Errorf("accesses %+v", s.accesses)
	}
	if got, ok := e.ask(&dap.EvaluateRequest{Request: request("evaluate"), Arguments: dap.EvaluateArguments{Expression: "dlv sources main.go", Context: "repl"}}).(*dap.EvaluateResponse); !ok || !strings.Contains(got.Body.Result, "main.go") {
		t.Errorf("sources: %+v", got)
	}
	e.ask(&dap.DisconnectRequest{Request: request("disconnect")})
	e.s.Close()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestClientLeaves(t *testing.T) {
	s := serve(t, debug.Options{})
	e := attached(t, s)
	e.s.Close()
	if err := s.wait(t); err != nil {
		t.Error(err)
	}
}

func TestClientTalksNonsense(t *testing.T) {
	for _, test := range []struct {
		say  string
		kind error
	}{
		{"Content-Length: 99999999\r\n\r\n", inquest.ErrInvalid},
		{"Content-Type: " + strings.Repeat("x", 2<<20), inquest.ErrTooLarge},
		{"Content-Length: 2\r\n\r\n[]", inquest.ErrInvalid},
		{"{]", inquest.ErrInvalid},
		{"GET / HTTP/1.1\r\n\r\n", inquest.ErrInvalid},
		{`{"method":"` + strings.Repeat("x", 2<<20), inquest.ErrTooLarge},
	} {
		s := serve(t, debug.Options{})
		_, _ = s.Write([]byte(test.say))
		if err := s.wait(t); !errors.Is(err, test.kind) {
			t.Errorf("%.30q: %v", test.say, err)
		}
	}
}

func TestIdleClient(t *testing.T) {
	s := serve(t, debug.Options{Limits: sandbox.Limits{Idle: 200 * time.Millisecond}})
	err := s.wait(t)
	if err == nil || !strings.Contains(err.Error(), "nothing was asked") {
		t.Errorf("got %v", err)
	}
}

func TestServeWrongExecutable(t *testing.T) {
	confined(t)
	_, core := crash(t, testprog.Build{}, "-kind=repanic")
	_, server := net.Pipe()
	err := debug.Serve(context.Background(), server, debug.Options{Exe: open(t, testprog.Build{Trimpath: true}.Path(t)), Core: open(t, core)}, nil)
	if !errors.Is(err, inquest.ErrConflict) {
		t.Errorf("got %v", err)
	}
}
