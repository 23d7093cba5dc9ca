package debug

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-delve/delve/service/api"
	"github.com/go-delve/delve/service/rpc2"
)

// rpcProtocol is Delve's JSON-RPC, as `dlv connect` speaks it.
type rpcProtocol struct {
	client, server         *bounded
	fromClient, fromServer *json.Decoder
}

func newRPC(in *bufio.Reader, client, server *bounded) *rpcProtocol {
	return &rpcProtocol{client: client, server: server, fromClient: json.NewDecoder(in), fromServer: json.NewDecoder(server)}
}

// rpcVerbs are the requests that are let through, each with its argument. It is
// decoded and encoded anew, so that server and proxy cannot read it differently.
var rpcVerbs = map[string]func() any{
	"Ancestors":                 func() any { return new(rpc2.AncestorsIn) },
	"AttachedToExistingProcess": func() any { return new(rpc2.AttachedToExistingProcessIn) },
	"BuildID":                   func() any { return new(rpc2.BuildIDIn) },
	"Command":                   func() any { return new(api.DebuggerCommand) }, // see refuseRPC
	"DebugInfoDirectories":      func() any { return new(rpc2.DebugInfoDirectoriesIn) },
	"Detach":                    func() any { return new(rpc2.DetachIn) },
	"Disassemble":               func() any { return new(rpc2.DisassembleIn) },
	"Eval":                      func() any { return new(rpc2.EvalIn) },
	"ExamineMemory":             func() any { return new(rpc2.ExamineMemoryIn) },
	"FindLocation":              func() any { return new(rpc2.FindLocationIn) },
	"FollowExecEnabled":         func() any { return new(rpc2.FollowExecEnabledIn) },
	"FunctionReturnLocations":   func() any { return new(rpc2.FunctionReturnLocationsIn) },
	"GetBreakpoint":             func() any { return new(rpc2.GetBreakpointIn) },
	"GetThread":                 func() any { return new(rpc2.GetThreadIn) },
	"GetVersion":                func() any { return new(api.GetVersionIn) },
	"GuessSubstitutePath":       func() any { return new(rpc2.GuessSubstitutePathIn) },
	"IsMulticlient":             func() any { return new(rpc2.IsMulticlientIn) },
	"LastModified":              func() any { return new(rpc2.LastModifiedIn) },
	"ListBreakpoints":           func() any { return new(rpc2.ListBreakpointsIn) },
	"ListCheckpoints":           func() any { return new(rpc2.ListCheckpointsIn) },
	"ListDynamicLibraries":      func() any { return new(rpc2.ListDynamicLibrariesIn) },
	"ListFunctionArgs":          func() any { return new(rpc2.ListFunctionArgsIn) },
	"ListFunctions":             func() any { return new(rpc2.ListFunctionsIn) },
	"ListGoroutines":            func() any { return new(rpc2.ListGoroutinesIn) },
	"ListLocalVars":             func() any { return new(rpc2.ListLocalVarsIn) },
	"ListPackageVars":           func() any { return new(rpc2.ListPackageVarsIn) },
	"ListPackagesBuildInfo":     func() any { return new(rpc2.ListPackagesBuildInfoIn) },
	"ListRegisters":             func() any { return new(rpc2.ListRegistersIn) },
	"ListSources":               func() any { return new(rpc2.ListSourcesIn) },
	"ListTargets":               func() any { return new(rpc2.ListTargetsIn) },
	"ListThreads":               func() any { return new(rpc2.ListThreadsIn) },
	"ListTypes":                 func() any { return new(rpc2.ListTypesIn) },
	"ProcessPid":                func() any { return new(rpc2.ProcessPidIn) },
	"Recorded":                  func() any { return new(rpc2.RecordedIn) },
	"SetApiVersion":             func() any { return new(api.SetAPIVersionIn) },
	"Stacktrace":                func() any { return new(rpc2.StacktraceIn) },
	"State":                     func() any { return new(rpc2.StateIn) },
	"TypeInfo":                  func() any { return new(rpc2.TypeInfoIn) },
}

// refuseRPC says why a request that may be allowed is not.
func refuseRPC(in any) string {
	switch in := in.(type) {
	case *api.DebuggerCommand:
		if in.Name != api.SwitchGoroutine && in.Name != api.SwitchThread && in.Name != api.Halt {
			return fmt.Sprintf("the process is dead, it cannot do %q", in.Name)
		}
		in.WithEvents, in.Expr = false, ""
	case *rpc2.DebugInfoDirectoriesIn:
		if in.Set {
			return "directories cannot be set"
		}
	}
	return ""
}

// rpcAccess says of which requests account is kept.
func rpcAccess(verb string, in any) *Access {
	a := &Access{Protocol: "dlv", Verb: verb}
	switch in := in.(type) {
	case *rpc2.EvalIn:
		a.Expression = in.Expr
	case *rpc2.ExamineMemoryIn:
		a.Expression = fmt.Sprintf("%d bytes at %#x", in.Length, in.Address)
	case *rpc2.ListPackageVarsIn:
		a.Expression = in.Filter
	default:
		return nil
	}
	return a
}

type rpcRequest struct {
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
	ID     uint64            `json:"id"`
}

type rpcResponse struct {
	ID     uint64          `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  any             `json:"error"`
}

// request implements protocol.
func (r *rpcProtocol) request() (forward, refusal []byte, a *Access, err error) {
	r.client.next()
	var q rpcRequest
	if err := r.fromClient.Decode(&q); err != nil {
		return nil, nil, nil, decodeError(err)
	}
	verb := strings.TrimPrefix(q.Method, "RPCServer.")
	arg, why := rpcVerbs[verb], ""
	var in any
	switch {
	case arg == nil:
		why = "not allowed on a stored core"
	case len(q.Params) != 1:
		why = "it takes one argument"
	default:
		in = arg()
		if err := json.Unmarshal(q.Params[0], in); err != nil {
			why = "its argument is malformed"
		} else {
			why = refuseRPC(in)
		}
	}
	if why != "" {
		refusal, err = line(rpcResponse{ID: q.ID, Error: fmt.Sprintf("%s: %s", clean(verb), why)})
		return nil, refusal, &Access{Protocol: "dlv", Verb: verb, Refused: why}, err
	}
	forward, err = line(struct {
		Method string `json:"method"`
		Params [1]any `json:"params"`
		ID     uint64 `json:"id"`
	}{"RPCServer." + verb, [1]any{in}, q.ID})
	return forward, nil, rpcAccess(verb, in), err
}

// response implements protocol.
func (r *rpcProtocol) response() ([]byte, error) {
	r.server.next()
	var p rpcResponse
	if err := r.fromServer.Decode(&p); err != nil {
		return nil, decodeError(err)
	}
	return line(p)
}

func line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}
