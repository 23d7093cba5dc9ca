package calltree

// Focus returns the tree of the stacks that contain a frame whose name
// matches; the root is not a frame. match is asked once per name.
func (t *Tree) Focus(match func(name string) bool) *Tree {
	hit := make([]bool, len(t.Names))
	for i := 1; i < len(hit); i++ {
		hit[i] = match(t.Names[i])
	}
	inside := make([]bool, t.Len())
	self := make([]int64, t.Len())
	for i := 1; i < t.Len(); i++ {
		inside[i] = inside[t.Parent[i]] || hit[t.Name[i]]
		if inside[i] {
			self[i] = t.Self[i]
		}
	}
	c := columns{names: t.Names, name: t.Name, parent: t.Parent}
	return c.tree(t.Names[0], self)
}

// Sandwich looks at one function from both sides. The root of both trees is
// the function (Names[0] is its name), and the Cum of both roots is the
// function's Cum in Top.
//
// callees merges what is below the outermost call of the function in each
// stack; a recursive call stays where it is, as a node of its own. callers is
// upside down: the children of a node are those who called it, and Self is the
// value of the stacks that begin at the node.
//
// Both are a lone root without value if no stack has the function.
func (t *Tree) Sandwich(name string) (callers, callees *Tree) {
	id := uint32(0)
	for i := 1; i < len(t.Names); i++ {
		if t.Names[i] == name {
			id = uint32(i)
		}
	}
	var up, down Builder
	if id != 0 {
		t.sandwich(id, &up, &down)
	}
	return up.tree(name), down.tree(name)
}

// sandwich fills two empty builders. They take over t's names, so that the
// indexes are the same and no name is looked up.
func (t *Tree) sandwich(id uint32, up, down *Builder) {
	up.start(0)
	down.start(0)
	up.names, down.names = t.Names, t.Names
	to := make([]int32, t.Len()) // per node below an outermost call: its node in down
	for i := 1; i < t.Len(); {
		if t.Name[i] != id {
			i++
			continue
		}
		// Outermost: the subtree is passed over as a whole, so no ancestor of i
		// has the name.
		node := int32(0)
		for j := t.Parent[i]; j > 0; j = t.Parent[j] {
			node = up.child(node, t.Name[j])
		}
		up.add(node, t.Cum[i])

		top := i
		down.add(0, t.Self[top])
		to[top] = 0
		for i++; i < t.Len() && t.Parent[i] >= int32(top); i++ {
			to[i] = down.child(to[t.Parent[i]], t.Name[i])
			down.add(to[i], t.Self[i])
		}
	}
}

// add adds to the value of one node.
func (b *Builder) add(node int32, v int64) {
	b.self = grown(b.self, len(b.name))
	b.self[node] += v
}
