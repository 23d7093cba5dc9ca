package profile

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// mix multiplies to 128 bits and folds them: the one step all hashes of this
// room are made of. With random keys, colliding input cannot be prepared.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// hashKey is the random key of a family of hashes. Its words are odd.
type hashKey [2]uint64

func newHashKey() hashKey {
	var b [16]byte
	rand.Read(b[:]) // never fails; ends the program if the system has no randomness
	return hashKey{binary.LittleEndian.Uint64(b[:]) | 1, binary.LittleEndian.Uint64(b[8:]) | 1}
}

// word adds w to hash h.
func (k *hashKey) word(h, w uint64) uint64 {
	return mix(h^w^k[0], k[1]) + bits.RotateLeft64(h, 23)
}

// bytes hashes s.
func (k *hashKey) bytes(s []byte) uint64 {
	h := uint64(len(s)) * k[1]
	for len(s) > 16 {
		h = mix(binary.LittleEndian.Uint64(s)^k[0], binary.LittleEndian.Uint64(s[8:])^h)
		s = s[16:]
	}
	var a, b uint64
	switch {
	case len(s) >= 8:
		a, b = binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[len(s)-8:])
	case len(s) >= 4:
		a, b = uint64(binary.LittleEndian.Uint32(s)), uint64(binary.LittleEndian.Uint32(s[len(s)-4:]))
	default:
		for _, c := range s {
			a = a<<8 | uint64(c)
		}
	}
	return mix(mix(a^k[0], b^h)^k[1], k[0])
}
