package store

// SmallAudit makes the files of the audit log small and few.
func (s *Store) SmallAudit(bytes int64, files int) { s.audit.bytes, s.audit.files = bytes, files }
