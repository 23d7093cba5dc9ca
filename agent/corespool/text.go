package corespool

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/goinquest/inquest"
)

// MaxTextBytes is how much of a text is kept.
const MaxTextBytes = 1 << 20

// text is one text of the pool.
type text struct {
	id   string // of its crash
	size int64
}

// Text keeps a crash with what the process wrote while it died, of which
// MaxTextBytes are kept at most. A longer text of the same crash replaces a
// shorter one. Errors are as of Crash; after one neither is kept.
func (p *Pool) Text(c inquest.Crash, data []byte) error {
	if !validID(c.ID) {
		return inquest.Errorf(inquest.ErrInvalid, "%q is not the id of a crash", c.ID)
	}
	defer p.tellLost()
	data = data[:min(len(data), MaxTextBytes)]
	fresh, err := p.putText(c.ID, data)
	if err != nil {
		return err
	}
	if err := p.tell(c); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t := p.text(c.ID); t != nil && fresh {
			p.removeText(t)
		}
		return err
	}
	return nil
}

// putText writes a text's file; fresh says that there was none.
func (p *Pool) putText(id string, data []byte) (fresh bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false, inquest.Errorf(inquest.ErrUnavailable, "the core spool is closed")
	}
	n := int64(len(data))
	if t := p.text(id); t != nil && t.size >= n {
		return false, nil
	}
	if err := p.room(n, false); err != nil {
		return false, err
	}
	if err := p.files.Write(dirTexts, id+extText, data); err != nil {
		return false, diskError("keep text", err)
	}
	if err := p.files.SyncDir(dirTexts); err != nil {
		return false, diskError("keep text", err)
	}
	p.bytes += n
	t := p.text(id)
	if t != nil {
		p.bytes -= t.size
		t.size = n
		return false, nil
	}
	p.texts = append(p.texts, &text{id: id, size: n})
	return true, nil
}

// text finds a text. Callers hold p.mu.
func (p *Pool) text(id string) *text {
	for _, t := range p.texts {
		if t.id == id {
			return t
		}
	}
	return nil
}

// NextText returns the oldest text that waits, with the id of its crash; ""
// if there is none. It stays until TextDone.
func (p *Pool) NextText() (id string, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.texts) > 0 {
		t := p.texts[0]
		data, err := os.ReadFile(p.files.Path(dirTexts, t.id+extText))
		if err == nil {
			return t.id, data
		}
		p.counts.Damaged++
		p.fail("read text", err)
		p.removeText(t)
	}
	return "", nil
}

// TextDone removes a text of n bytes that the collector has, unless it has
// grown since, or one it will never take, which is counted.
func (p *Pool) TextDone(id string, n int, stored bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.text(id)
	if t == nil || stored && t.size > int64(n) {
		return
	}
	if !stored {
		p.counts.DroppedTexts++
	}
	p.removeText(t)
}

// removeText removes a text. Callers hold p.mu.
func (p *Pool) removeText(t *text) {
	p.texts = slices.DeleteFunc(p.texts, func(o *text) bool { return o == t })
	p.bytes -= t.size
	if err := p.files.Remove(dirTexts + "/" + t.id + extText); err != nil {
		p.fail("remove text", err)
	}
}

// recoverTexts finds the texts there are. One whose crash was not kept any
// more costs a request.
func (p *Pool) recoverTexts() error {
	list, err := p.files.List(dirTexts)
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, byAge)
	for _, f := range list {
		id, ok := strings.CutSuffix(f.Name, extText)
		if !ok || !validID(id) || f.Info.Size() > MaxTextBytes {
			p.quarantine(dirTexts, f.Name, errors.New("it is not a text of a crash"))
			continue
		}
		p.texts = append(p.texts, &text{id: id, size: f.Info.Size()})
		p.bytes += f.Info.Size()
	}
	return nil
}
