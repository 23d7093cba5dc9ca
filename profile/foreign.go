package profile

import "bytes"

// foreign says what a body that is not a pprof profile looks like, "" if it
// looks like nothing known.
func foreign(msg []byte) string {
	head := msg[:min(len(msg), 512)]
	for _, f := range []struct{ prefix, what string }{
		{"\x28\xb5\x2f\xfd", "this is zstd data; say Content-Encoding: zstd, or send gzip or plain pprof"},
		{"\x1f\x8b", "this is gzip within gzip; compress the profile once"},
		{"\x7fELF", "this is an ELF file, not a pprof profile"},
		{"go 1.", "this is a Go execution trace, not a pprof profile"},
	} {
		if bytes.HasPrefix(head, []byte(f.prefix)) {
			return f.what
		}
	}
	if !isText(head) {
		return ""
	}
	head = bytes.TrimLeft(head, " \t\r\n\ufeff")
	const textForm = "this is the text form of a profile; fetch it with debug=0"
	for _, f := range []struct{ prefix, what string }{
		{"<", "this is HTML, not a pprof profile; is the URL right?"},
		{"{", "this is JSON, not a pprof profile; is the URL right?"},
		{"[", "this is JSON, not a pprof profile; is the URL right?"},
		{"heap profile:", textForm},
		{"goroutine profile:", textForm},
		{"threadcreate profile:", textForm},
		{"goroutine ", textForm},
		{"--- ", textForm}, // mutex, contention
	} {
		if bytes.HasPrefix(head, []byte(f.prefix)) {
			return f.what
		}
	}
	return "this is text, not a pprof profile; is the URL right?"
}

// isText reports whether b has none of the control characters that every
// pprof message has among its first bytes.
func isText(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}
