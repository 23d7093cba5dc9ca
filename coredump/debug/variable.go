package debug

import (
	"fmt"
	"reflect"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/api"

	"github.com/goinquest/inquest"
)

// Load bounds what is read of variables. Zero fields have the defaults that are
// named, others are cut to what is the most.
type Load struct {
	Depth  int `json:"depth,omitempty"`  // of what is in or behind a variable; 2, at most 5
	String int `json:"string,omitempty"` // bytes; 256, at most 64 KiB
	Values int `json:"values,omitempty"` // of arrays, slices and maps; 32, at most 1000
	Fields int `json:"fields,omitempty"` // of a struct; 64, at most 1000
}

// maxVariables bounds the variables of one answer, children included.
const maxVariables = 5_000

func (l Load) config() proc.LoadConfig {
	within := func(n, or, most int) int {
		if n <= 0 {
			return or
		}
		return min(n, most)
	}
	cfg := proc.LoadConfig{
		FollowPointers:     true,
		MaxVariableRecurse: within(l.Depth, 2, 5),
		MaxStringLen:       within(l.String, 256, 64<<10),
		MaxArrayValues:     within(l.Values, 32, 1000),
		MaxStructFields:    within(l.Fields, 64, 1000),
	}
	if cfg.MaxVariableRecurse > 2 { // it multiplies
		cfg.MaxArrayValues, cfg.MaxStructFields = min(cfg.MaxArrayValues, 32), min(cfg.MaxStructFields, 64)
	}
	cfg.MaxMapBuckets = cfg.MaxArrayValues * 100
	return cfg
}

// Variable is a value with a name.
type Variable struct {
	Name     string     `json:"name,omitempty"`
	Type     string     `json:"type,omitempty"`
	Kind     string     `json:"kind,omitempty"`  // as package reflect names it
	Value    string     `json:"value,omitempty"` // of what is no composite; strings as they are
	Address  Address    `json:"address,omitzero"`
	Len      int64      `json:"len,omitempty"` // of strings, arrays, slices, maps, channels
	Cap      int64      `json:"cap,omitempty"`
	Children []Variable `json:"children,omitempty"` // fields, elements, keys and values in turn, what a pointer or interface holds
	Nil      bool       `json:"nil,omitempty"`
	Shadowed bool       `json:"shadowed,omitempty"` // by another of its name
	Escaped  bool       `json:"escaped,omitempty"`  // is on the heap
	Line     int64      `json:"line,omitempty"`     // of its declaration
	// Cut says that there is more than was read. More is an expression that
	// evaluates to the same, to be asked for with other limits.
	Cut     bool   `json:"cut,omitempty"`
	More    string `json:"more,omitempty"`
	Problem string `json:"problem,omitempty"` // why it cannot be read: optimized away, not in the core
}

// Scope are the variables of a frame.
type Scope struct {
	Arguments []Variable `json:"arguments,omitempty"` // and results
	Locals    []Variable `json:"locals,omitempty"`
}

func (t *target) variables(goroutine int64, frame int, l Load) (*Scope, error) {
	scope, err := t.scope(goroutine, frame)
	if err != nil {
		return nil, err
	}
	cfg := l.config()
	arguments, err := scope.FunctionArguments(cfg)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "arguments: %w", err)
	}
	locals, err := scope.LocalVariables(cfg)
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "locals: %w", err)
	}
	left := maxVariables
	return &Scope{Arguments: convertAll(arguments, &left), Locals: convertAll(locals, &left)}, nil
}

func (t *target) eval(goroutine int64, frame int, expression string, l Load) (*Variable, error) {
	if len(expression) > MaxExpression {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "an expression of %d bytes, at most %d are taken", len(expression), MaxExpression)
	}
	scope, err := t.scope(goroutine, frame)
	if err != nil {
		return nil, err
	}
	v, err := scope.EvalExpression(expression, l.config())
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%w", err)
	}
	left := maxVariables
	out := convert(v, &left)
	return &out, nil
}

func convertAll(list []*proc.Variable, left *int) []Variable {
	out := make([]Variable, 0, len(list))
	for _, v := range list {
		if *left <= 0 {
			break
		}
		out = append(out, convert(v, left))
	}
	return out
}

// convert makes a variable of Delve's, and counts it and its children.
func convert(v *proc.Variable, left *int) Variable {
	*left--
	out := Variable{
		Name:     v.Name,
		Type:     api.PrettyTypeName(v.DwarfType),
		Address:  Address(v.Addr),
		Shadowed: v.Flags&proc.VariableShadowed != 0,
		Escaped:  v.Flags&proc.VariableEscaped != 0,
		Line:     v.DeclLine,
	}
	if v.Kind != reflect.Invalid {
		out.Kind = v.Kind.String()
	}
	if v.Unreadable != nil {
		out.Problem = v.Unreadable.Error()
		return out
	}
	out.Value = api.VariableValueAsString(v)
	if v.Kind == reflect.Pointer && len(v.Children) == 1 {
		out.Value = fmt.Sprintf("%#x", v.Children[0].Addr)
	}
	switch v.Kind {
	case reflect.String, reflect.Array, reflect.Slice, reflect.Map, reflect.Chan:
		out.Len = v.Len
		if v.Kind == reflect.Slice || v.Kind == reflect.Chan {
			out.Cap = v.Cap
		}
	}
	out.Nil = isNil(v)
	out.Cut = isCut(v)
	for i := range v.Children {
		if *left <= 0 {
			out.Cut = true
			break
		}
		out.Children = append(out.Children, convert(&v.Children[i], left))
	}
	if out.Cut && v.Addr != 0 && v.Flags&proc.VariableFakeAddress == 0 {
		out.More = fmt.Sprintf("*(*%q)(%#x)", out.Type, v.Addr)
	}
	return out
}

func isNil(v *proc.Variable) bool {
	switch v.Kind {
	case reflect.Pointer, reflect.UnsafePointer:
		return len(v.Children) == 1 && v.Children[0].Addr == 0
	case reflect.Slice, reflect.Map, reflect.Chan, reflect.Func:
		return v.Base == 0
	case reflect.Interface:
		return len(v.Children) == 1 && v.Children[0].Kind == reflect.Invalid && v.Children[0].Addr == 0
	}
	return false
}

// isCut says whether something of v was not read because of limits.
func isCut(v *proc.Variable) bool {
	if v.OnlyAddr {
		return v.Addr != 0
	}
	switch v.Kind {
	case reflect.String:
		return v.Len > int64(len(api.VariableValueAsString(v)))
	case reflect.Array, reflect.Slice, reflect.Struct:
		return v.Len > int64(len(v.Children))
	case reflect.Map:
		return v.Len > int64(len(v.Children)/2)
	}
	return false
}
