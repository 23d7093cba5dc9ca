package coredump

import "encoding/binary"

// Every number of an image file stands here; docs/core-format.md explains the
// file byte by byte.
//
//	head  | frame, block | frame, block | … | trailer
//
// An image is written in one pass and never gone back in: what it will hold
// is in the head, what became of it in the trailer. The head and the trailer
// are the ledger.
const (
	imageVersion = 1

	magicHead    = "IQCH"
	magicBlock   = "IQCB" // a frame with its block behind it
	magicAbsent  = "IQCA" // the frame of a block that is not in this file
	magicTrailer = "IQCT"
	magicEnd     = "IQCE" // last bytes of a whole file

	headFixed    = 48 // magic, version, raw and packed size of the header, SHA-256 of the packed one
	frameFixed   = 56 // magic, number, size, stored size, skips, sum, CRC-32C of these and the skips behind them
	skipSize     = 8  // of one skip in a frame: from and size within the block
	trailerFixed = 32 // magic, blocks, written bytes, skips, size of the Core, spare
	rowSize      = 40 // of one block in the trailer: stored size, skips, sum
	footerFixed  = 40 // root, size of the trailer, magic

	// BlockBytes is how many bytes of memory a block has; the last one of the
	// minicore and of the image may have fewer.
	BlockBytes = 1 << 20
	// MaxExtents is how many extents, and how many segments, an image may have.
	MaxExtents = 1 << 20
	// MaxNotesBytes is how large the notes of a core may be.
	MaxNotesBytes = 32 << 20

	maxBlocks      = 1 << 20 // 1 TiB of memory
	maxHeaderBytes = 64 << 20
	maxCoreBytes   = 1 << 20 // JSON of inquest.Core
	maxBlockSkips  = 4096    // in one block
	maxSkips       = 1 << 18 // in an image
	maxVirtual     = 1 << 56 // sum of all segments
	maxTrailer     = maxBlocks*rowSize + maxSkips*skipSize + maxCoreBytes + trailerFixed + footerFixed
	maxLedgerBytes = headFixed + maxHeaderBytes + maxTrailer
)

var wire = binary.LittleEndian
