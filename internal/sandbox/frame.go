package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"

	"github.com/goinquest/inquest"
)

// errOversize is a frame that is longer than was agreed.
var errOversize = errors.New("a frame is too long")

// writeFrame writes v as one frame of at most the given bytes of JSON.
func writeFrame(w io.Writer, v any, most int) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(body) > most {
		return inquest.Errorf(inquest.ErrTooLarge, "%d bytes for the other side, at most %d are taken: %w", len(body), most, errOversize)
	}
	_, err = w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// readFrame reads one frame. What comes is as large as it says only once it
// is here.
func readFrame(r io.Reader, most int) (json.RawMessage, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size > int64(most) {
		return nil, errOversize
	}
	body, err := io.ReadAll(io.LimitReader(r, size))
	if err == nil && int64(len(body)) < size {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

// values counts the values of a text of JSON, or a few more.
func values(text []byte) int {
	n := 1
	for i, quoted := 0, false; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ',' || c == '[' || c == '{'):
			n++
		}
	}
	return n
}

// hello is the first frame to a child.
type hello struct {
	Args       json.RawMessage `json:"args,omitempty"`
	Files      int             `json:"files,omitempty"` // inherited ones
	Limits     Limits          `json:"limits"`
	Unconfined bool            `json:"unconfined,omitempty"`
}

// ready is the first frame of a child, before it runs its stage.
type ready struct {
	Layers []Layer `json:"layers"`
}

// answerFields is how many values an answer has besides its value.
const answerFields = 8

// answer is every other frame of a child: the first says that its stage has
// begun, the others answer a request each.
type answer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Kind  string          `json:"kind,omitempty"` // of the error, as the API names it
	Error string          `json:"error,omitempty"`
	Panic string          `json:"panic,omitempty"` // where it was recovered from
}
