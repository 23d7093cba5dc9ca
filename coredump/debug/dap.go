package debug

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	delvedap "github.com/go-delve/delve/service/dap"
	"github.com/google/go-dap"
)

// dapProtocol is the debug adapter protocol, as editors speak it.
type dapProtocol struct {
	client, server         *bounded
	fromClient, fromServer *bufio.Reader
}

func newDAP(in *bufio.Reader, client, server *bounded) *dapProtocol {
	return &dapProtocol{client: client, server: server, fromClient: in, fromServer: bufio.NewReader(server)}
}

// decodeError tells the end of a connection from nonsense.
func decodeError(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errBounded) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return err
	}
	return fmt.Errorf("%w: %w", errMalformed, err)
}

// request implements protocol. Requests are decoded and encoded anew, so that
// server and proxy cannot read them differently.
func (d *dapProtocol) request() (forward, refusal []byte, a *Access, err error) {
	d.client.next()
	raw, err := dap.ReadBaseMessage(d.fromClient)
	if err != nil {
		return nil, nil, nil, decodeError(err)
	}
	m, err := dap.DecodeProtocolMessage(raw)
	var unknown *dap.DecodeProtocolMessageFieldError
	if errors.As(err, &unknown) {
		const why = "it is unknown"
		refusal, err = refuse(&dap.Request{ProtocolMessage: dap.ProtocolMessage{Seq: unknown.Seq}, Command: clean(unknown.FieldValue)}, why)
		return nil, refusal, &Access{Protocol: "dap", Verb: unknown.FieldValue, Refused: why}, err
	}
	if err != nil {
		return nil, nil, nil, decodeError(err)
	}
	request, ok := m.(dap.RequestMessage)
	if !ok {
		return nil, nil, nil, nil // clients answer nothing, for nothing is asked
	}
	verb := request.GetRequest().Command
	if why := refuseDAP(m); why != "" {
		refusal, err = refuse(request.GetRequest(), why)
		return nil, refusal, &Access{Protocol: "dap", Verb: verb, Refused: why}, err
	}
	forward, err = message(m)
	return forward, nil, dapAccess(verb, m), err
}

// refuseDAP says why a request is not let through, and changes what must be of
// one that is.
func refuseDAP(m dap.Message) string {
	switch m := m.(type) {
	case *dap.InitializeRequest, *dap.ConfigurationDoneRequest, *dap.ThreadsRequest, *dap.StackTraceRequest, *dap.ScopesRequest,
		*dap.VariablesRequest, *dap.ExceptionInfoRequest, *dap.DisassembleRequest, *dap.ReadMemoryRequest,
		*dap.SetBreakpointsRequest, *dap.SetFunctionBreakpointsRequest, *dap.SetExceptionBreakpointsRequest: // which the server refuses one by one
		return ""
	case *dap.DisconnectRequest:
		return ""
	case *dap.AttachRequest:
		return attachRemote(m)
	case *dap.EvaluateRequest:
		return refuseEvaluate(m.Arguments.Expression)
	case *dap.ContinueRequest, *dap.NextRequest, *dap.StepInRequest, *dap.StepOutRequest, *dap.PauseRequest, *dap.RestartRequest, *dap.StepBackRequest, *dap.ReverseContinueRequest:
		return "the process is dead, it cannot go on"
	case *dap.LaunchRequest:
		return "nothing can be launched; attach with mode remote"
	}
	return "not allowed on a stored core"
}

// attachRemote lets an editor attach to the opened core, whatever else it asks
// for, and has it stop there: the process cannot go on.
func attachRemote(m *dap.AttachRequest) string {
	var args delvedap.AttachConfig
	if err := json.Unmarshal(m.Arguments, &args); err != nil {
		return "its arguments are malformed"
	}
	if args.Mode != "remote" {
		return fmt.Sprintf("attach with mode remote, not %q", clean(args.Mode))
	}
	type path struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	c := struct {
		delvedap.LaunchAttachCommonConfig
		Mode  string `json:"mode"`
		Paths []path `json:"substitutePath,omitempty"` // Delve's own lose what is empty, and then are refused
	}{args.LaunchAttachCommonConfig, args.Mode, nil}
	c.StopOnEntry, c.FollowExec, c.FollowExecRegex, c.Backend = true, false, "", ""
	for _, s := range args.SubstitutePath {
		c.Paths = append(c.Paths, path(s))
	}
	b, err := json.Marshal(c)
	if err != nil {
		return err.Error()
	}
	m.Arguments = b
	return ""
}

// dlvCommands are those of Delve's console that look and do not touch.
var dlvCommands = []string{"help", "h", "config", "sources", "s", "types", "examinemem", "x"}

func refuseEvaluate(expression string) string {
	f := strings.Fields(expression)
	switch {
	case len(expression) > MaxExpression:
		return "the expression is too long"
	case len(f) > 1 && f[0] == "call":
		return "the process is dead, nothing can be called"
	case len(f) > 1 && f[0] == "dlv" && !slices.Contains(dlvCommands, f[1]):
		return "not allowed on a stored core"
	}
	return ""
}

// dapAccess says of which requests account is kept.
func dapAccess(verb string, m dap.Message) *Access {
	a := &Access{Protocol: "dap", Verb: verb}
	switch m := m.(type) {
	case *dap.EvaluateRequest:
		a.Expression = m.Arguments.Expression
	case *dap.ReadMemoryRequest:
		a.Expression = fmt.Sprintf("%d bytes at %s", m.Arguments.Count, m.Arguments.MemoryReference)
	default:
		return nil
	}
	return a
}

// refuse is the answer to a request that is not let through.
func refuse(r *dap.Request, why string) ([]byte, error) {
	e := &dap.ErrorResponse{}
	e.Type, e.Command, e.RequestSeq, e.Message = "response", r.Command, r.Seq, "refused"
	e.Body.Error = &dap.ErrorMessage{Id: refusedID, Format: why, ShowUser: r.Command == "launch" || r.Command == "attach"}
	return message(e)
}

// refusedID is the number of the error of what is refused, none of Delve's.
const refusedID = 9800

// response implements protocol. The child may be in the hands of a core by now,
// so what asks the editor to do something is left out.
func (d *dapProtocol) response() ([]byte, error) {
	d.server.next()
	raw, err := dap.ReadBaseMessage(d.fromServer)
	if err != nil {
		return nil, decodeError(err)
	}
	m, err := dap.DecodeProtocolMessage(raw)
	if err != nil {
		return nil, nil // of a kind nobody knows
	}
	switch m.(type) {
	case dap.ResponseMessage, dap.EventMessage:
		return message(m)
	}
	return nil, nil
}

func message(m dap.Message) ([]byte, error) {
	var b bytes.Buffer
	err := dap.WriteProtocolMessage(&b, m)
	return b.Bytes(), err
}
