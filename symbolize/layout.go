package symbolize

// A table of symbols is one blob:
//
//	data       the parts, one behind the other, without gaps
//	directory  version, parts (id, offset, size), CRC-32C of each page of the data
//	trailer    lengths and a CRC-32C of the directory, magic
//
// All numbers are little-endian. Pages are cut off at pageBytes wherever
// parts begin, and are verified when they are first read. A reader passes
// over parts it does not know.
const (
	tableMagic   = "inqsyms\x01"
	tableVersion = 1

	pageBytes    = 1 << 12
	trailerBytes = 32 // data and directory length (8 each), directory CRC, version (4 each), magic
	partRowBytes = 20 // id (4), offset, size (8 each)
	maxParts     = 64
)

// The parts. Numbers are never given to something else.
const (
	partSegments = 1  // what is loaded where: see segments.go
	partGo       = 2  // text start, end, number of functions, size of names: four numbers of 8 bytes
	partIndex    = 3  // entry of each function and the end of the last, offset of each record and the end, offset of each name; 4 bytes each
	partRecords  = 4  // what is known of each function: see record.go
	partStrings  = 5  // names, then files, each ended by a zero byte
	partNative   = 16 // functions that are not Go's: see nativelayout.go
)
