package corepattern

func (l *Listener) startFiles(p *Plan) error { return nil }
