package store

// Every name, key and number that reaches the disk stands in this file;
// docs/format.md explains them byte by byte.

// Versions of what is on the disk. Older ones are read too; a catalog is
// brought up when it is opened.
const (
	logVersion     = 1
	blockVersion   = 2 // 2: levels, sources and resolutions in the listing
	binaryVersion  = 1
	offerVersion   = 1
	reportVersion  = 1
	catalogVersion = 2 // 2: rows of blocks do not hold their listings, entries have checksums
)

// Names inside Options.Dir.
const (
	logDir      = "log"        // 00000017.log …
	blockDir    = "blocks"     // <id>.blk, through Blobs
	binaryDir   = "binaries"   // <sha256>.bin and <sha256>-<version>.tab, through Blobs
	uploadDir   = "uploads"    // <sha256>-<size>.part: binaries of which something is here
	textDir     = "texts"      // <crash>-<sha256>.txt, through Blobs
	coreDir     = "cores"      // <id>.core, .offer and .have, see coreFiles
	catalogFile = "catalog.db" // bbolt
	lockFile    = "lock"       // flock: one process per directory
	// What only the catalog has, once more: see sideFile.
	deletionFile = "deletions.jsonl"
	horizonFile  = "horizon.json"
	auditFile    = "audit.jsonl" // and audit-00000017.jsonl, older ones
	auditPrefix  = "audit-"
	auditSuffix  = ".jsonl"
	logSuffix    = ".log"
	blockSuffix  = ".blk"
	binarySuffix = ".bin"
	tableSuffix  = ".tab"
	uploadSuffix = ".part"
	textSuffix   = ".txt"
	coreSuffix   = ".core"
	offerSuffix  = ".offer"
	haveSuffix   = ".have"
	reportSuffix = ".report"
	tempSuffix   = ".tmp"
	brokenInfix  = ".broken-" // catalog.db.broken-<time>: one that could not be used, see brokenName
)

// Buckets of the catalog and the keys of its meta bucket.
const (
	bucketMeta      = "meta"
	bucketBlocks    = "blocks"      // block id → row, see appendInfo
	bucketClosed    = "closed"      // last log file, epoch, 8 bytes big-endian each → nothing
	bucketBaselines = "baselines"   // name → sequence, 8 bytes big-endian, then the state
	bucketBaseAge   = "baseage"     // sequence, 8 bytes big-endian → name
	bucketBuilds    = "builds"      // build id → JSON of inquest.Build
	bucketDamaged   = "damaged"     // block id, '/', part number → reason
	bucketHorizon   = "horizon"     // horizonState → JSON of reach
	bucketDeletions = "deletions"   // number, 8 bytes big-endian → JSON of deletion
	bucketCuts      = "cuts"        // block id, '/', number of a deletion, decimal → nothing; until it is done
	bucketBinaries  = "binaries"    // SHA-256 in hex → JSON of StoredBinary
	bucketSeen      = "seen"        // build id, 0, service → first and last data, unix ns, 8 bytes big-endian each
	bucketCrashes   = "crashes"     // id → codec, length, JSON of StoredCrash, see appendPacked
	bucketTimes     = "crashtimes"  // time, unix ns with the sign flipped, 8 bytes big-endian, id → JSON of crashRow
	bucketGroups    = "crashgroups" // id → JSON of CrashGroup
	bucketHours     = "crashhours"  // group, 0, hour since 1970, 8 bytes big-endian → decimal count
	bucketCores     = "cores"       // id → JSON of StoredCore
	horizonState    = "state"
	metaVersion     = "version"  // decimal catalogVersion
	metaRestored    = "restored" // RFC 3339; when the store was made of a backup
	metaBackup      = "backup"   // RFC 3339; when that was made: what was deleted since is in the store again
	metaSeen        = "seen"     // "1" when builds of all blocks are in seen
	metaNextLog     = "next_log" // decimal; log files created from now on have this number or a higher one
)

// Magic numbers, as the four bytes at the start of what they mark.
const (
	magicLogFile   = "IQLG"
	magicLogFrame  = "IQLF"
	magicBlockHead = "IQBK"
	magicBlockFoot = "IQBF"
	magicBinHead   = "IQEH"
	magicBinFoot   = "IQEF"
	magicOffer     = "IQCO"
	magicReport    = "IQCR"
)

// maxLogNumber stands, in the key of a closed epoch, for a log file that is
// not known: the entry stays.
const maxLogNumber = 1<<63 - 1

// Sizes of fixed structures in bytes.
const (
	logHeaderSize   = 20 // magic, version u32, file number u64, CRC-32C of these
	frameHeaderSize = 32 // see appendFrame
	blockHeaderSize = 8  // magic, version u32
	binHeaderSize   = 8  // magic, version u32
	binIndexEntry   = 8  // of a frame: stored bytes u32, the highest bit set if it is zstd; their CRC u32
	binFooterSize   = 36 // offset of the index, bytes of the binary u64; bytes of index and document, their CRC, version u32; magic
	blockFooterSize = 28 // listing offset u64, length u64, its CRC u32, version u32, magic
)

// How a stored stream is compressed.
const (
	codecRaw  = 0
	codecZstd = 1
)

// Sections of a part: first those that flame graphs need, then the detail.
const (
	secNames      = 1 // distinct function-level names
	secFuncTree   = 2 // function-level tree
	secSeriesNode = 3 // series → node of that tree, sample-label set
	secLabelText  = 4 // strings of sample labels
	secLabelSets  = 5 // sample-label sets
	secMeta       = 6 // profile label sets, processes, forms, and their strings
	secFuncInfo   = 7 // of rollups: file and start line of each name

	secStrings    = 16 // all other strings, and where each string of the dictionary is
	secFunctions  = 17
	secMappings   = 18
	secLocations  = 19
	secStacks     = 20
	secSeriesLeaf = 21
)

// Sections of a block that belong to no part.
const (
	secKeys    = 32 // keys, sorted
	secKeyInfo = 33 // body hash, part, section, row of each key
)

// Streams of a row group. Those of value column c are at streamColumn +
// c*streamsPerColumn.
const (
	streamRows       = 0 // what is known of each profile
	streamSeries     = 1 // which series each profile has
	streamSizes      = 2 // size of the allocations of each series, where counts are stored
	streamCells      = 3 // of rollups: what is known of each row's profiles
	streamColumn     = 8
	streamsPerColumn = 4
	streamValues     = 0 // mode, then values or bit lengths
	streamBits       = 1 // mantissa bits
	streamRest       = 2 // what is to be added to values that follow from counts
)

// Tables of a dictionary, in the order they are logged: each refers only to
// earlier ones and to itself.
const (
	tabStrings = iota
	tabFunctions
	tabMappings
	tabLocations
	tabStacks
	tabLabelSets
	tabSeries
	tabMetaSets
	tabProcesses
	tabForms
	tabSections
	numTables
)

// Flags of a stored profile.
const (
	FlagTruncated = 1 << 0 // samples were folded into one to keep within a limit
	FlagShifted   = 1 << 1 // the sender's times were moved to the collector's clock
)

// Limits on what is believed of stored bytes, so that damaged ones cannot make
// a reader allocate without bound.
const (
	maxStreamBytes = 1 << 30 // of one stored stream, unpacked
	maxIndexBytes  = 1 << 26 // of a log frame's index
	maxListBytes   = 1 << 28 // of a block's listing
	maxOfferBytes  = 1 << 28 // of a core's offer
	maxReportBytes = 1 << 25 // of what is known of a core, unpacked
)
