package debug

import (
	"slices"

	"github.com/go-delve/delve/pkg/proc"
	"github.com/go-delve/delve/service/api"

	"github.com/goinquest/inquest"
)

const maxThreads = 10_000

// Thread is one thread of the process.
type Thread struct {
	TID       int   `json:"tid"`
	Goroutine int64 `json:"goroutine,omitempty"` // it ran, 0 if none
	Frame     Frame `json:"frame"`               // where it was
}

// Register is one register of a thread.
type Register struct {
	Name  string `json:"name"`
	Value string `json:"value"` // as Delve writes it
}

func (t *target) thread(th proc.Thread) Thread {
	out := Thread{TID: th.ThreadID()}
	if g, err := proc.GetG(th); err == nil && g != nil {
		out.Goroutine = g.ID
	}
	if at, err := proc.ThreadLocation(th); err == nil {
		out.Frame = location(*at)
	} else {
		out.Frame.Problem = err.Error()
	}
	return out
}

// registers are those of a thread; of the one that died if tid is 0.
func (t *target) registers(tid int) ([]Register, error) {
	th := t.target.CurrentThread()
	if tid != 0 {
		list := t.target.ThreadList()
		i := slices.IndexFunc(list, func(th proc.Thread) bool { return th.ThreadID() == tid })
		if i < 0 {
			return nil, inquest.Errorf(inquest.ErrNotFound, "the process had no thread %d", tid)
		}
		th = list[i]
	}
	regs, err := th.Registers()
	if err != nil {
		return nil, inquest.Errorf(inquest.ErrNotFound, "registers: %w", err)
	}
	arch := t.target.BinInfo().Arch
	list := api.ConvertRegisters(arch.RegistersToDwarfRegisters(0, regs), arch.DwarfRegisterToString, false)
	out := make([]Register, 0, len(list))
	for _, r := range list {
		out = append(out, Register{r.Name, r.Value})
	}
	return out, nil
}
