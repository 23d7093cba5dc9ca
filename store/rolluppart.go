package store

// rolled says whether the part is of a rollup block.
func (p *Part) rolled() bool { return p.block != nil && p.block.info.level == levelRollup }

// rolledFuncInfo is FuncInfo for parts of rollups.
func (p *Part) rolledFuncInfo(names map[string]FuncInfo) error {
	if err := p.load(loadedCore); err != nil {
		return err
	}
	_ = names
	return nil
}
