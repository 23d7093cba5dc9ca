package ingest

import (
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/profile"
)

const (
	maxProcessBytes = 256
	noInstance      = "-" // instance of a sender that has none
)

// header is what a push says beside its body, checked.
type header struct {
	service, instance, release, build string
	process                           string
	own                               inquest.Labels // the target's own labels
	kind                              inquest.Kind   // "" = from the body
	temporality                       string
	key                               inquest.Key
	keyed                             bool // key was given
}

// check reads what a push says beside its body. Errors are ErrInvalid or
// ErrTooLarge.
func (in *Ingest) check(p *Push) (*header, error) {
	h := &header{service: p.Service, instance: p.Instance, release: p.Release, build: p.Build, process: p.Process, temporality: p.Temporality}
	if h.service == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "the service is missing: add service=NAME, as in POST /api/v1/profiles?service=shop&instance=10.0.0.7:8080&kind=cpu")
	}
	if h.instance == "" {
		h.instance = noInstance
	}
	for _, l := range []inquest.Label{
		{Name: inquest.LabelService, Value: h.service}, {Name: inquest.LabelInstance, Value: h.instance},
		{Name: inquest.LabelRelease, Value: h.release}, {Name: inquest.LabelBuild, Value: h.build},
	} {
		if err := checkLabel(l.Name, l.Value); err != nil {
			return nil, err
		}
	}
	if len(h.process) > maxProcessBytes || !utf8.ValidString(h.process) || control(h.process) {
		return nil, inquest.Errorf(inquest.ErrInvalid, "process %.60q: want at most %d bytes of UTF-8 without control characters", h.process, maxProcessBytes)
	}
	var err error
	if h.own, err = checkLabels(p.Labels); err != nil {
		return nil, err
	}
	if h.kind, err = inquest.ParseKind(p.Kind); err != nil {
		return nil, err
	}
	switch p.Temporality {
	case "", "delta", "cumulative":
	default:
		return nil, inquest.Errorf(inquest.ErrInvalid, "unknown temporality %.40q; want delta or cumulative", p.Temporality)
	}
	if p.Interval < 0 {
		return nil, inquest.Errorf(inquest.ErrInvalid, "interval %v is negative", p.Interval)
	}
	if h.keyed = p.Key != ""; h.keyed {
		if h.key, err = inquest.ParseKey(p.Key); err != nil {
			return nil, err
		}
	}
	return h, in.checkBody(p)
}

func (in *Ingest) checkBody(p *Push) error {
	switch {
	case len(p.Body) == 0:
		return inquest.Errorf(inquest.ErrInvalid, "the body is empty; it must be a pprof profile")
	case int64(len(p.Body)) > in.o.MaxBodyBytes:
		return inquest.Errorf(inquest.ErrTooLarge, "the body has %d bytes, at most %d are accepted (max_body_bytes)", len(p.Body), in.o.MaxBodyBytes)
	}
	switch p.Encoding {
	case "", "identity", "gzip", "zstd":
		return nil
	}
	return inquest.Errorf(inquest.ErrInvalid, "unknown Content-Encoding %.40q; want gzip, zstd or none", p.Encoding)
}

// checkLabels checks the target's own labels.
func checkLabels(m map[string]string) (inquest.Labels, error) {
	if len(m) > inquest.MaxLabels {
		return nil, inquest.Errorf(inquest.ErrInvalid, "%d labels were given, at most %d are allowed", len(m), inquest.MaxLabels)
	}
	for name, value := range m {
		if inquest.Reserved(name) {
			return nil, inquest.Errorf(inquest.ErrInvalid, "label %q is reserved: give it as the parameter %s=, not as label.%s=", name, name, name)
		}
		if err := checkLabel(name, value); err != nil {
			return nil, err
		}
	}
	return inquest.NewLabels(m), nil
}

func checkLabel(name, value string) error {
	if err := inquest.ValidateLabel(name, value); err != nil {
		return err
	}
	if control(value) {
		return inquest.Errorf(inquest.ErrInvalid, "value %.60q of label %q holds a control character", value, name)
	}
	return nil
}

// control reports whether s holds a control character, which nobody means.
func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// labels is the whole label set; build stands in where the sender named none.
func (h *header) labels(build string) inquest.Labels {
	ls := make(inquest.Labels, 0, len(h.own)+4)
	ls = append(ls, h.own...)
	if h.build != "" {
		build = h.build
	}
	for _, l := range []inquest.Label{
		{Name: inquest.LabelBuild, Value: build}, {Name: inquest.LabelInstance, Value: h.instance},
		{Name: inquest.LabelRelease, Value: h.release}, {Name: inquest.LabelService, Value: h.service},
	} {
		if l.Value == "" {
			continue
		}
		i := len(ls)
		for i > 0 && ls[i-1].Name > l.Name {
			i--
		}
		ls = append(ls, inquest.Label{})
		copy(ls[i+1:], ls[i:])
		ls[i] = l
	}
	return ls
}

// cumulative says whether the values of a body count since its process began.
func (h *header) cumulative(kind inquest.Kind) bool {
	switch h.temporality {
	case "delta":
		return false
	case "cumulative":
		return true
	}
	return profile.Cumulative(kind)
}

// Seeds of the two halves of a key. They are part of what is stored: another
// value would take a retry for a new profile.
const (
	seedLow  = 0x1b2f_7a45_9c03_d86e
	seedHigh = 0xa5d1_03c7_42be_961f
)

// identity is the key of a push and the hash of its body. A sender's own key
// goes first, else it is made from service, instance, kind, start and body:
// the same for a retry. It is no defence against crafted collisions: whoever
// may push may as well push under another service's name.
func (h *header) identity(p *Push) (inquest.Key, uint64) {
	bodyHash := xxhash.Sum64(p.Body)
	if h.keyed {
		return h.key, bodyHash
	}
	head := make([]byte, 0, 256)
	for _, s := range []string{h.service, h.instance, string(h.kind)} {
		head = append(head, s...)
		head = append(head, 0) // control characters are refused, so this is a border
	}
	if !p.Start.IsZero() {
		head = binary.BigEndian.AppendUint64(head, uint64(p.Start.UnixNano()))
	}
	var key inquest.Key
	var d xxhash.Digest
	for i, seed := range []uint64{seedLow, seedHigh} {
		d.ResetWithSeed(seed)
		_, _ = d.Write(head) // a Digest's Write never fails
		_, _ = d.Write(p.Body)
		binary.BigEndian.PutUint64(key[8*i:], d.Sum64())
	}
	return key, bodyHash
}

// mainBuild is the build id of the program's own mapping (the first), if it is
// one.
func mainBuild(p *profile.Profile) string {
	if len(p.Mappings) == 0 {
		return ""
	}
	id := p.Strings[p.Mappings[0].BuildID]
	if len(id) < 8 || len(id) > 128 {
		return ""
	}
	for _, ch := range id {
		if !(ch >= '0' && ch <= '9' || ch >= 'a' && ch <= 'f' || ch >= 'A' && ch <= 'F') {
			return ""
		}
	}
	return strings.ToLower(string(id))
}
