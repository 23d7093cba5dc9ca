package inquest

// Module is a Go module as the linker recorded it in an executable.
type Module struct {
	Path    string  `json:"path"`
	Version string  `json:"version,omitempty"` // "v1.2.3"; "" if unknown, as for "(devel)"
	Replace *Module `json:"replace,omitempty"` // what was built instead; its Version is "" for a directory
}

// Built is what is really in the executable: the replacement, if there is one.
func (m *Module) Built() *Module {
	if m.Replace != nil {
		return m.Replace
	}
	return m
}

// Vulnerability is a known one of one module of a build.
type Vulnerability struct {
	ID      string   `json:"id"` // "GO-2024-2687"
	Aliases []string `json:"aliases,omitempty"`
	Summary string   `json:"summary,omitempty"`
	URL     string   `json:"url,omitempty"`
	Module  string   `json:"module"`          // a path, or "stdlib" or "toolchain" for Go itself
	Version string   `json:"version"`         // in the build: "v0.20.0"; of Go itself "1.22.1"
	Fixed   string   `json:"fixed,omitempty"` // first version after it that is not affected, "" if there is none
}

// Frame is one function of a symbolized address. An address where functions
// are inlined has several, innermost first.
type Frame struct {
	Function  string `json:"function"`         // as the Go runtime spells it; demangled for C++ and Rust
	Symbol    string `json:"symbol,omitempty"` // of a generic function: as the linker and profiles of Go 1.21 and later spell it
	File      string `json:"file,omitempty"`   // as the compiler recorded it
	Line      int    `json:"line,omitempty"`   // 0 if unknown
	StartLine int    `json:"start_line,omitempty"`
}

// What a Binary is, by its ELF type and contents.
const (
	BinaryExecutable = "executable" // linked to fixed addresses
	BinaryPIE        = "pie"        // a program that is loaded anywhere
	BinaryLibrary    = "library"    // a shared object
	BinaryDebug      = "debug"      // a debug companion: sections without the code itself
	BinarySource     = "source"     // no ELF file, but a zip of the source files; its comment is "inquest source" and the build id
)

// Profiled is the function as profiles spell it.
func (f *Frame) Profiled() string {
	if f.Symbol != "" {
		return f.Symbol
	}
	return f.Function
}

// Binary is one ELF file, or the source of one: what it says of itself, and what
// it is good for.
type Binary struct {
	Build                // its ids, and the embedded build information of a Go program
	GNUBuildID string    `json:"gnu_build_id,omitempty"` // hex; empty if it has none
	SHA256     string    `json:"sha256"`                 // of the whole file, in hex
	Bytes      int64     `json:"bytes"`                  // of the whole file
	Arch       string    `json:"arch"`                   // as GOARCH spells it, else the ELF machine
	Kind       string    `json:"kind"`                   // one of the Binary… constants
	DWARF      bool      `json:"dwarf"`                  // has .debug_info with something in it
	Pclntab    bool      `json:"pclntab"`                // has Go's table of functions and lines
	Symtab     bool      `json:"symtab"`                 // has .symtab
	Sections   []Section `json:"sections,omitempty"`     // in the order of the file
}

// Program says whether the binary has the code itself.
func (b *Binary) Program() bool { return b.Kind != BinaryDebug && b.Kind != BinarySource }

// Section is one section of a Binary.
type Section struct {
	Name   string `json:"name"`
	Addr   uint64 `json:"addr,omitempty"`   // where it is linked to; 0 if it is not loaded
	Offset uint64 `json:"offset,omitempty"` // in the file
	Size   uint64 `json:"size"`             // in memory; of debug sections, as stored
	Absent bool   `json:"absent,omitempty"` // takes no space in the file (SHT_NOBITS)
	SHA256 string `json:"sha256,omitempty"` // of .text, .rodata and .gopclntab where they are in the file
}

// Trust says how far names that were taken from a file are those of the code
// that ran.
type Trust string

// The levels of trust.
const (
	TrustExact Trust = "exact" // the ids, or the bytes of the code, are the same
	TrustNames Trust = "names" // the table of functions is the same, data may lie elsewhere
	TrustNone  Trust = "none"  // nothing shows that they belong together
)
