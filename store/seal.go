package store

import (
	"encoding/binary"
	"errors"
)

// bbolt has no checksums but those of its two first pages, so every entry of
// the catalog carries one: the CRC-32C of bucket, key and value after the
// value. sealBytes is what it takes.
const sealBytes = 4

var errSeal = errors.New("checksum of the entry does not match")

// seal appends the checksum of an entry to its value, in place if there is
// room.
func seal(bucket string, key, value []byte) []byte {
	return binary.LittleEndian.AppendUint32(value, sealOf(bucket, key, value))
}

// unseal returns the value of a sealed entry; it shares v's memory.
func unseal(bucket string, key, v []byte) ([]byte, error) {
	n := len(v) - sealBytes
	if n < 0 || sealOf(bucket, key, v[:n]) != binary.LittleEndian.Uint32(v[n:]) {
		return nil, errSeal
	}
	return v[:n:n], nil
}

func sealOf(bucket string, key, value []byte) uint32 {
	// The length keeps a byte from moving between key and value.
	head := binary.AppendUvarint(append([]byte(bucket), 0), uint64(len(key)))
	return updateChecksum(updateChecksum(checksum(head), key), value)
}
