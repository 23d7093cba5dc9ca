package program

// MemoryLimitOf lets the tests use files of their own.
var MemoryLimitOf = memoryLimit

// GCPercent lets the tests ask for the pace without a collection.
var GCPercent = gcPercent
