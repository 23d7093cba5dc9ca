// Package inquest is the dictionary of the project: the words every room
// uses and what each of them means. It holds types and constants, small pure
// functions on them, and nothing else: standard library only, no I/O, no
// goroutines, no clock. Every room may import it; it imports none.
package inquest

// ProtocolVersion is the version of the HTTP protocol between agents, clients
// and the collector. It travels in the header named by HeaderProtocol.
const ProtocolVersion = 1

// Names of the HTTP headers both ends of the protocol use.
const (
	HeaderProtocol       = "Inquest-Protocol" // decimal ProtocolVersion
	HeaderSentAt         = "Inquest-Sent-At"  // sender's clock when sending, RFC 3339 with nanoseconds
	HeaderIdempotencyKey = "Idempotency-Key"  // 32 hex digits, see Key
	HeaderSHA256         = "Inquest-SHA256"   // of a whole binary, in hex
	HeaderDWARF          = "Inquest-DWARF"    // of a binary: true or false
	HeaderAgent          = "Inquest-Agent"    // id of the agent that uploads a binary
)

// Keys of structured log records, so that the same thing has the same key in
// every room.
const (
	LogErr     = "err"
	LogDur     = "dur"
	LogBytes   = "bytes"
	LogSeries  = "series"
	LogService = "service"
	LogTarget  = "target"
	LogAgent   = "agent"
	LogKind    = "kind"
	LogBlock   = "block"
	LogBuildID = "build_id"
)
