package corespool

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
)

// Every name of the pool stands in this file.
//
//	events/SEQ.events   crashes that wait to be told, one record a line, in order
//	texts/ID.text       what the process of crash ID wrote while it died
//	cores/ID.crash      the crash a core is of, one record: before the first byte
//	                    of the core, and again when it is complete
//	cores/ID.part       the image of a core, being written
//	cores/ID.ledger     all of the image but its blocks, as coredump has it
//	cores/ID.image      the image, or as much of its beginning as is kept
//	exes/BUILD.exe      the executable of a process that has ended
//	policy              the newest inquest.CapturePolicy, one record
//	refused/ID.…        a core that the collector or the disk damaged, the newest few
//	damaged/NAME        files that could not be read, the newest few
//	*/.tmp-NAME         being written; removed when the pool is opened
//
// SEQ is 16 hex digits, ID an inquest.Crash.ID, BUILD an inquest.Build.ID.
// A record is a line: CRC-32C of the JSON as 8 hex digits, a space, the JSON.
const (
	dirEvents  = "events"
	dirTexts   = "texts"
	dirCores   = "cores"
	dirExes    = "exes"
	dirRefused = "refused"
	dirDamaged = "damaged"

	namePolicy = "policy"

	extEvents = ".events"
	extText   = ".text"
	extCrash  = ".crash"
	extPart   = ".part"
	extLedger = ".ledger"
	extImage  = ".image"
	extExe    = ".exe"
	extReason = ".reason"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendRecord appends one record to dst.
func appendRecord(dst []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v) // without newlines
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	dst = fmt.Appendf(dst, "%08x ", crc32.Checksum(data, castagnoli))
	return append(append(dst, data...), '\n'), nil
}

// parseRecord reads one record, with or without its newline.
func parseRecord(line []byte, v any) error {
	text := strings.TrimSuffix(string(line), "\n")
	sum, data, ok := strings.Cut(text, " ")
	want, err := strconv.ParseUint(sum, 16, 32)
	if !ok || len(sum) != 8 || err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "record begins with %.20q, want a checksum", text)
	}
	if got := crc32.Checksum([]byte(data), castagnoli); got != uint32(want) {
		return inquest.Errorf(inquest.ErrInvalid, "checksum is %08x, the record says %s", got, sum)
	}
	if err := json.Unmarshal([]byte(data), v); err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "record: %w", err)
	}
	return nil
}

// eventsName is the name of a segment of events.
func eventsName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, extEvents) }

// parseEventsName is the reverse of eventsName.
func parseEventsName(name string) (seq uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, extEvents)
	if !ok {
		return 0, false
	}
	seq, err := strconv.ParseUint(digits, 16, 64)
	return seq, err == nil && eventsName(seq) == name
}

// validID reports whether id may be part of a file's name: hex digits, of a
// crash, or of a build, which may have "go-" before them.
func validID(id string) bool {
	digits := strings.TrimPrefix(id, "go-")
	_, err := hex.DecodeString(digits)
	return err == nil && len(digits) >= 2 && len(digits) <= 128 && strings.ToLower(digits) == digits
}
