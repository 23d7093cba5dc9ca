package demo

// Sources lets the tests see what is embedded.
var Sources = sources
