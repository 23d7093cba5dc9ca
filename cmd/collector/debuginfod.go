package main

// debuginfod is the section of the file that says which servers are asked for
// executables that nobody uploaded.
type debuginfod struct {
	URLs     []string `yaml:"urls"`
	MaxBytes size     `yaml:"max_bytes"` // of one file; 0 = 2 GiB
	Timeout  age      `yaml:"timeout"`   // for one file; 0 = 10 min
	Pause    age      `yaml:"pause"`     // before a server is asked again for what it had not; 0 = 1 h
}
