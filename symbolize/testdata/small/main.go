// Command small is the smallest program there is, for tests that spoil it.
package main

func main() {}
