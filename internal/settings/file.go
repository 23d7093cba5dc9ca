package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// section is a part of the file that is more than a setting.
type section struct {
	key    string // "" if the fields of target are keys of the file itself
	usage  string
	target any // pointer to what it is decoded into
}

// Section lets the file hold a structured value under a key. target is a
// pointer with yaml tags; it is only written if the file has the key.
func (s *Set) Section(key, usage string, target any) {
	s.sections = append(s.sections, section{key, usage, target})
}

// Inline lets the file hold the fields of a struct beside the settings.
func (s *Set) Inline(target any) {
	s.sections = append(s.sections, section{"", "", target})
}

// maxFileBytes bounds the configuration file; a real one has a few KiB.
const maxFileBytes = 8 << 20

func (s *Set) readFile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return Errorf("configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return Errorf("configuration %s is larger than %s", path, FormatSize(maxFileBytes))
	}
	s.path = path
	root, err := document(data)
	if err != nil {
		return Errorf("%s: %s", filepath.Base(path), strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if root == nil {
		return nil
	}
	r := reader{set: s, file: filepath.Base(path)}
	return r.document(root)
}

// document parses YAML to its root node, nil if the text holds nothing.
func document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if err := dec.Decode(&second); err == nil {
		return nil, fmt.Errorf("line %d: a second document begins; the file holds one", second.Line)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, nil
	}
	if root := doc.Content[0]; root.Tag != "!!null" {
		return root, nil
	}
	return nil, nil
}

// reader applies one parsed file to a Set.
type reader struct {
	set  *Set
	file string // base name, for messages
}

func (r *reader) document(root *yaml.Node) error {
	if root.Kind != yaml.MappingNode {
		return Errorf("%s:%d: want keys and values such as \"listen: 127.0.0.1:7070\"", r.file, root.Line)
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		if first, twice := seen[key.Value]; twice {
			return Errorf("%s:%d: key `%s` is there a second time, first at line %d", r.file, key.Line, key.Value, first)
		}
		seen[key.Value] = key.Line
		if err := r.key(root, key, value); err != nil {
			return err
		}
	}
	return r.inline(root)
}

// key handles one key of the file's top level. Keys of inlined structs are
// only checked here; see inline.
func (r *reader) key(root, key, value *yaml.Node) error {
	for _, st := range r.set.settings {
		if st.Key() == key.Value && st.Name != "config" && !r.isSection(key, value) {
			return r.setting(st, value)
		}
	}
	for _, sec := range r.set.sections {
		if sec.key == "" {
			if t, ok := fields(elem(sec.target))[key.Value]; ok {
				return r.check(value, t)
			}
		} else if sec.key == key.Value {
			if err := r.check(value, elem(sec.target)); err != nil {
				return err
			}
			return r.decode(value, sec.key, sec.target)
		}
	}
	return r.unknown(key, r.topKeys())
}

// isSection says whether a key that names a setting too has a section here: a
// short form and a long one.
func (r *reader) isSection(key, value *yaml.Node) bool {
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	return value.Kind == yaml.MappingNode && slices.ContainsFunc(r.set.sections, func(s section) bool { return s.key == key.Value })
}

func (r *reader) setting(st *Setting, value *yaml.Node) error {
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	source := fmt.Sprintf("%s:%d: %s", r.file, value.Line, st.Key())
	_, isList := st.value.(*list)
	switch {
	case value.Kind == yaml.ScalarNode && value.Tag != "!!null":
		return assignment{st, value.Value, source}.apply()
	case value.Kind == yaml.SequenceNode && isList:
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode {
				return Errorf("%s: want a list of words", source)
			}
			if err := (assignment{st, item.Value, source}).apply(); err != nil {
				return err
			}
		}
		return nil
	case value.Kind == yaml.ScalarNode:
		return Errorf("%s: the value is missing", source)
	}
	return Errorf("%s: want one value, not a list or a section", source)
}

// inline decodes the file's top level into inlined structs.
func (r *reader) inline(root *yaml.Node) error {
	for _, sec := range r.set.sections {
		if sec.key == "" {
			if err := r.decode(root, "", sec.target); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reader) topKeys() []string {
	var keys []string
	for _, st := range r.set.settings {
		if st.Name != "config" {
			keys = append(keys, st.Key())
		}
	}
	for _, sec := range r.set.sections {
		if sec.key != "" {
			keys = append(keys, sec.key)
			continue
		}
		for name := range fields(elem(sec.target)) {
			keys = append(keys, name)
		}
	}
	return keys
}

func (r *reader) unknown(key *yaml.Node, valid []string) error {
	if near := Nearest(key.Value, valid); near != "" {
		return Errorf("%s: unknown key `%s` at line %d; did you mean `%s`?", r.file, key.Value, key.Line, near)
	}
	return Errorf("%s: unknown key `%s` at line %d; known here are %s", r.file, key.Value, key.Line, sorted(valid))
}

// check looks for keys below node that the type decoded into does not have.
func (r *reader) check(node *yaml.Node, t reflect.Type) error {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.SequenceNode && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array):
		for _, item := range node.Content {
			if err := r.check(item, t.Elem()); err != nil {
				return err
			}
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Map:
		for i := 1; i < len(node.Content); i += 2 {
			if err := r.check(node.Content[i], t.Elem()); err != nil {
				return err
			}
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		return r.checkFields(node, fields(t))
	}
	return nil
}

func (r *reader) checkFields(node *yaml.Node, known map[string]reflect.Type) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if key.Tag == "!!merge" {
			continue
		}
		t, ok := known[key.Value]
		if !ok {
			names := make([]string, 0, len(known))
			for name := range known {
				names = append(names, name)
			}
			return r.unknown(key, names)
		}
		if err := r.check(node.Content[i+1], t); err != nil {
			return err
		}
	}
	return nil
}

func elem(target any) reflect.Type { return reflect.TypeOf(target).Elem() }

// fields maps the YAML keys of a struct to the types of their values, as
// package yaml names them: by tag, else by the field's name in lower case.
func fields(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	out := make(map[string]reflect.Type)
	if t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(options, "inline"):
			for n, t := range fields(f.Type) {
				out[n] = t
			}
		case name == "":
			out[strings.ToLower(f.Name)] = f.Type
		default:
			out[name] = f.Type
		}
	}
	return out
}

func (r *reader) decode(node *yaml.Node, key string, target any) error {
	err := node.Decode(target)
	if err == nil {
		return nil
	}
	var te *yaml.TypeError
	if errors.As(err, &te) && len(te.Errors) > 0 {
		return Errorf("%s", r.located(te.Errors[0], node.Line))
	}
	where := fmt.Sprintf("%s:%d: ", r.file, node.Line)
	if key != "" {
		where += key + ": "
	}
	return Errorf("%s%s", where, strings.TrimPrefix(err.Error(), "yaml: "))
}

var (
	atLine    = regexp.MustCompile(`^line (\d+): `)
	wrongType = regexp.MustCompile("cannot unmarshal !!(\\w+)(?: `(.*)`)? into (\\S+)")
)

// located turns a message of the yaml package, "line 3: cannot unmarshal
// !!str `x` into int", into one for the person who wrote the file.
func (r *reader) located(message string, line int) string {
	where := fmt.Sprintf("%s:%d: ", r.file, line)
	if m := atLine.FindStringSubmatch(message); m != nil {
		where = r.file + ":" + m[1] + ": "
		message = message[len(m[0]):]
	}
	m := wrongType.FindStringSubmatch(message)
	if m == nil {
		return where + message
	}
	got := "a list or a section"
	if m[2] != "" {
		got = fmt.Sprintf("%q", m[2])
	}
	return where + got + ": want " + wanted(m[3])
}

func wanted(goType string) string {
	goType = strings.TrimPrefix(goType, "*")
	switch {
	case goType == "time.Duration":
		return "a duration such as 10s or 1h30m"
	case goType == "bool":
		return "true or false"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["):
		return "keys and values"
	case goType == "string":
		return "a text"
	}
	return "a section with keys"
}

// InSection puts the name of the file and of a section before an error about
// what the section says; key "" stands for the file's top level.
func (s *Set) InSection(key string, err error) error {
	if key != "" {
		err = fmt.Errorf("%s: %w", key, err)
	}
	if s.path == "" {
		return err
	}
	return fmt.Errorf("%s: %w", filepath.Base(s.path), err)
}
