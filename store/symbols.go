package store

import (
	"context"
	"errors"
	"slices"

	"github.com/goinquest/inquest"
)

// Symbols says which functions are at addresses of binaries. Trees of parts are
// made with it when they are read, so that a binary that comes later names the
// past. It must be safe for concurrent use.
type Symbols interface {
	// Generation changes whenever Frames may answer otherwise.
	Generation() uint64
	// Frames returns for each offset in the file with that build id, innermost
	// first, the functions there; none where it does not know. The result has the
	// length of offsets.
	Frames(ctx context.Context, build string, offsets []uint64) ([][]inquest.Frame, error)
}

// ErrFleetAddresses says that a table of the fleet has addresses of which the
// functions are known by now. What calls of a function cost cannot be told from
// what calls through its addresses cost: own rows of the services can tell.
var ErrFleetAddresses = errors.New("table of the fleet has addresses that are symbolized now")

// rewrittenBytes is the memory, per node and series, of a tree made anew.
const rewrittenBytes = 24

// resolve makes the part's tree one of functions wherever symbols know them.
// Names keep their numbers, new ones follow.
func (p *Part) resolve(ctx context.Context) error {
	if p.symbols == nil || p.resolved {
		return nil
	}
	gen := p.symbols.Generation() + 1 // 0 is the tree without them
	if t := p.s.trees.get(p.block, p.index, gen); t != nil {
		p.takeCore(t)
		p.resolved = true
		return nil
	}
	r := resolver{t: &p.tables}
	if err := r.ask(ctx, p.symbols); err != nil {
		return err
	}
	if len(r.at) > 0 {
		if len(p.sections) > 0 && p.sections[0].info.Fleet && r.known {
			return ErrFleetAddresses
		}
		if err := p.reserveMore(ctx, rewrittenBytes*int64(len(p.tables.funcUp)+len(p.tables.series))); err != nil {
			return err
		}
		r.rewrite()
		if p.block != nil {
			p.s.trees.put(p.block, p.index, gen, &p.tables)
		}
	}
	p.resolved = true
	return nil
}

// resolver rewrites names and tree of tables.
type resolver struct {
	t      *tables
	at     map[uint32][]uint32 // by name that is an address: what is in its place, outermost first
	known  bool                // some of it is functions
	ids    map[string]uint32
	info   map[string]FuncInfo
	stored int // names
}

// ask finds what is at the addresses, binary by binary.
func (r *resolver) ask(ctx context.Context, symbols Symbols) error {
	type place struct {
		name    uint32
		address inquest.Address
	}
	builds := map[string][]place{}
	for i, no := range r.t.noSymbol {
		if !no {
			continue
		}
		if a, ok := inquest.ParseAddress(r.t.names[i]); ok && a.Build != "" {
			builds[a.Build] = append(builds[a.Build], place{uint32(i), a})
		}
	}
	if len(builds) == 0 {
		return nil
	}
	r.start()
	for build, places := range builds {
		offsets := make([]uint64, len(places))
		for i, p := range places {
			offsets[i] = p.address.Offset
		}
		frames, err := symbols.Frames(ctx, build, offsets)
		if err != nil {
			return err
		}
		for i, p := range places {
			if len(frames[i]) == 0 {
				r.at[p.name] = []uint32{r.name(p.address.Short(), true)}
				continue
			}
			r.known = true
			var ids []uint32
			for _, f := range slices.Backward(frames[i]) {
				name := f.Profiled()
				ids = append(ids, r.name(name, false))
				if _, ok := r.info[name]; !ok {
					r.info[name] = FuncInfo{f.File, int64(f.StartLine)}
				}
			}
			r.at[p.name] = ids
		}
	}
	return nil
}

// start copies what is rewritten: the tables may be shared.
func (r *resolver) start() {
	r.at, r.ids, r.info = map[uint32][]uint32{}, map[string]uint32{}, map[string]FuncInfo{}
	r.stored = len(r.t.names)
	r.t.names, r.t.noSymbol = slices.Clone(r.t.names), slices.Clone(r.t.noSymbol)
	for i, name := range r.t.names {
		if !r.t.noSymbol[i] {
			r.ids[name] = uint32(i)
		}
	}
	r.t.resolved = r.info
}

// name finds or adds a name.
func (r *resolver) name(s string, address bool) uint32 {
	key := s
	if address {
		key = "\x00" + s // no function is called so
	}
	id, ok := r.ids[key]
	if !ok {
		id = uint32(len(r.t.names))
		r.ids[key] = id
		r.t.names, r.t.noSymbol = append(r.t.names, s), append(r.t.noSymbol, address)
	}
	return id
}

// rewrite makes the tree anew: a node of an address becomes one or several,
// which may be there already.
func (r *resolver) rewrite() {
	t := r.t
	d := dict{tables: tables{funcUp: make([]int32, 1, len(t.funcUp)), funcName: make([]uint32, 1, len(t.funcUp))}}
	d.funcUp[0] = -1
	node := make([]uint32, len(t.funcUp))
	for i := 1; i < len(node); i++ {
		up, name := node[t.funcUp[i]], t.funcName[i]
		ids, ok := r.at[name]
		if !ok {
			node[i] = d.funcNode(up, name)
			continue
		}
		for _, id := range ids {
			up = d.funcNode(up, id)
		}
		node[i] = up
	}
	series := make([]uint32, len(t.series))
	for i, n := range t.series {
		series[i] = node[n]
	}
	t.funcUp, t.funcName, t.series = d.funcUp, d.funcName, series
	t.added = len(t.names) - r.stored
}
