package program

// MemoryLimitOf lets the tests use files of their own.
var MemoryLimitOf = memoryLimit
