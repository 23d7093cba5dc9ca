package profile

// Gunzipper lets tests compare the ways to unpack a body.
type Gunzipper struct {
	g   gunzipper
	buf []byte
}

// OneShot unpacks a usual body; false if it is left to Stream.
func (g *Gunzipper) OneShot(body []byte) ([]byte, bool) {
	g.buf = sized(g.buf, body, 64<<20)
	out, ok := g.g.fast.gunzip(g.buf, body)
	return out, ok
}

// Stream unpacks any body.
func (g *Gunzipper) Stream(body []byte) ([]byte, error) {
	out, err := g.g.stream(sized(g.buf, body, 64<<20), body, 64<<20)
	g.buf = out
	return out, err
}

// Retained is the memory a Decoder holds, in bytes.
func (d *Decoder) Retained() int64 { return int64(cap(d.raw)) + d.columnBytes }
