package spool

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"

	"github.com/goinquest/inquest"
)

// Every name and every byte of the spool stands in this file.
//
//	agent-id                     the agent's id, made once, text
//	identity                     random name of this spool, 32 hex digits
//	sequence                     decimal; no sequence at or above it was ever given away
//	lock                         flock'ed by the agent that has the spool open
//	queue/SEQ.profile            a profile that waits to be shipped
//	baselines/KEY.baseline       cumulative state after the newest committed profile of KEY
//	baselines/KEY.next           the same after a profile that may not be committed yet
//	refused/SEQ.profile, .reason what the collector refused for good, the newest few
//	damaged/NAME                 files that could not be read, the newest few
//	*/.tmp-NAME                  being written; removed when the spool is opened
//
// SEQ is the sequence as 16 hex digits, KEY a hash of the baseline's key.
// A profile and a baseline file have the same frame:
//
//	magic (8 bytes) · header length (4, little-endian) · header (JSON)
//	· body length (8, little-endian) · body · CRC-32C of all before (4)
const (
	nameAgentID  = "agent-id"
	nameIdentity = "identity"
	nameSequence = "sequence"
	nameLock     = "lock"

	dirQueue     = "queue"
	dirBaselines = "baselines"
	dirRefused   = "refused"
	dirDamaged   = "damaged"

	extProfile  = ".profile"
	extBaseline = ".baseline"
	extNext     = ".next"
	extReason   = ".reason"
)

const (
	magicProfile  = "INQSPP01"
	magicBaseline = "INQSPB01"

	maxHeaderBytes = 1 << 20
	frameOverhead  = 8 + 4 + 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what is known of a spooled profile beside its body.
type Header struct {
	Key      inquest.Key       `json:"-"`        // idempotency key, given by Put
	KeyText  string            `json:"key"`      // Key in hex
	Sequence uint64            `json:"sequence"` // given by Put
	Service  string            `json:"service"`
	Instance string            `json:"instance"`
	Release  string            `json:"release,omitempty"`
	Build    string            `json:"build,omitempty"`
	Process  string            `json:"process,omitempty"`
	Kind     inquest.Kind      `json:"kind"`
	Start    time.Time         `json:"start"`
	End      time.Time         `json:"end"`
	Hold     time.Duration     `json:"hold_ns"`
	Labels   map[string]string `json:"labels,omitempty"`
}

// baselineHeader says which baseline a file holds and which profile moved it.
type baselineHeader struct {
	Key      string    `json:"key"`
	Sequence uint64    `json:"sequence"` // of the profile that goes with this state
	Taken    time.Time `json:"taken"`
}

// appendFrame appends one file's bytes to dst.
func appendFrame(dst []byte, magic string, header any, body []byte) ([]byte, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("encode spool header: %w", err)
	}
	if len(h) > maxHeaderBytes {
		return nil, inquest.Errorf(inquest.ErrTooLarge, "spool header has %d bytes, at most %d are allowed", len(h), maxHeaderBytes)
	}
	from := len(dst)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(h)))
	dst = append(dst, h...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(body)))
	dst = append(dst, body...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli)), nil
}

// parseFrame takes a file apart, checks it and decodes its header. body is
// part of data.
func parseFrame(data []byte, magic string, header any) (body []byte, err error) {
	if len(data) < frameOverhead {
		return nil, inquest.Errorf(inquest.ErrInvalid, "file has %d bytes, a whole one at least %d", len(data), frameOverhead)
	}
	if string(data[:8]) != magic {
		return nil, inquest.Errorf(inquest.ErrInvalid, "file begins with %q, want %q", data[:8], magic)
	}
	sum := binary.LittleEndian.Uint32(data[len(data)-4:])
	if got := crc32.Checksum(data[:len(data)-4], castagnoli); got != sum {
		return nil, inquest.Errorf(inquest.ErrInvalid, "checksum is %08x, the file says %08x", got, sum)
	}
	rest := data[8 : len(data)-4]
	n := int64(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	if n > maxHeaderBytes || n > int64(len(rest))-8 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "header of %d bytes does not fit the file", n)
	}
	if err := json.Unmarshal(rest[:n], header); err != nil {
		return nil, inquest.Errorf(inquest.ErrInvalid, "header: %w", err)
	}
	rest = rest[n:]
	if want := binary.LittleEndian.Uint64(rest); want != uint64(len(rest)-8) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "body has %d bytes, the file says %d", len(rest)-8, want)
	}
	return rest[8:], nil
}

// ParseProfile reads the bytes of a profile file. The body is part of data.
// The error is of kind inquest.ErrInvalid and says what is wrong.
func ParseProfile(data []byte) (Header, []byte, error) {
	var h Header
	body, err := parseFrame(data, magicProfile, &h)
	if err != nil {
		return Header{}, nil, err
	}
	if h.Key, err = inquest.ParseKey(h.KeyText); err != nil {
		return Header{}, nil, err
	}
	return h, body, nil
}

// parseBaseline reads the bytes of a baseline file.
func parseBaseline(data []byte) (baselineHeader, []byte, error) {
	var h baselineHeader
	body, err := parseFrame(data, magicBaseline, &h)
	return h, body, err
}

// profileName is the name of a sequence's file.
func profileName(seq uint64) string { return fmt.Sprintf("%016x%s", seq, extProfile) }

// parseProfileName is the reverse of profileName.
func parseProfileName(name string) (seq uint64, ok bool) {
	hex, ok := strings.CutSuffix(name, extProfile)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	seq, err := strconv.ParseUint(hex, 16, 64)
	return seq, err == nil && profileName(seq) == name
}
