package store

import (
	"bytes"
	"io"
	"os"
)

// ReadBinaryFile reads the file of a binary: what it says it is, and its bytes.
func ReadBinaryFile(file []byte) (*StoredBinary, []byte, error) {
	f, err := openBinaryFile(memoryBlob{bytes.NewReader(file)}, newPacker())
	if err != nil {
		return nil, nil, err
	}
	row, err := f.row()
	if err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, min(f.Size(), 1<<20)))
	return row, raw, err
}

// BinaryFile reads the file of a stored binary as it is on the disk.
func (s *Store) BinaryFile(sha string) ([]byte, error) {
	return os.ReadFile(s.binaries.blobs.path(sha))
}
