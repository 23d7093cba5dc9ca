package debug

import (
	"go/constant"
	"reflect"

	"github.com/go-delve/delve/pkg/proc"
)

// PanicValue is one panic of a goroutine.
type PanicValue struct {
	Value     Variable `json:"value"` // the argument, an interface
	Recovered bool     `json:"recovered,omitempty"`
	Goexit    bool     `json:"goexit,omitempty"` // not a panic, but the end of the goroutine
}

// panics follows the chain of a goroutine, from the latest to what began it.
func (t *target) panics(goroutine int64, l Load) ([]PanicValue, error) {
	scope, err := t.scope(goroutine, 0)
	if err != nil {
		return nil, err
	}
	out := []PanicValue{}
	left := maxVariables
	at := "runtime.curg._panic"
	for range maxPanics {
		p, err := scope.EvalExpression(at, proc.LoadConfig{})
		if err != nil || p.Kind != reflect.Pointer || len(p.Children) != 1 || p.Children[0].Addr == 0 {
			break // the end, or a process without one
		}
		var w PanicValue
		arg, err := scope.EvalExpression(at+".arg", l.config())
		if err != nil {
			w.Value.Problem = err.Error()
		} else {
			w.Value = convert(arg, &left)
		}
		w.Recovered, w.Goexit = is(scope, at+".recovered"), is(scope, at+".goexit")
		out = append(out, w)
		at += ".link"
	}
	return out, nil
}

// is evaluates a boolean; false if it is not there.
func is(scope *proc.EvalScope, expression string) bool {
	v, err := scope.EvalExpression(expression, proc.LoadConfig{})
	return err == nil && v.Value != nil && v.Value.Kind() == constant.Bool && constant.BoolVal(v.Value)
}
