package store

// SeenNoter notes that data of a build and service starts at a time, unix ns.
func (s *Store) SeenNoter() func(build, service string, at int64) {
	return func(build, service string, at int64) { s.seen.note(build, service, at, at) }
}
