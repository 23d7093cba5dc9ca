package web

import (
	"crypto/tls"
	"sync/atomic"

	"github.com/goinquest/inquest"
)

// certs holds the certificate in use, which load replaces.
type certs struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

// newCerts reads the TLS files of the options; nil if there are none.
func newCerts(o Options) (*certs, error) {
	if o.TLSCertFile == "" && o.TLSKeyFile == "" {
		return nil, nil
	}
	if o.TLSCertFile == "" || o.TLSKeyFile == "" {
		return nil, inquest.Errorf(inquest.ErrInvalid, "TLS needs both a certificate file and a key file; only one was given")
	}
	c := &certs{certFile: o.TLSCertFile, keyFile: o.TLSKeyFile}
	return c, c.load()
}

// load reads the files; on an error the current certificate stays.
func (c *certs) load() error {
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return inquest.Errorf(inquest.ErrInvalid, "load TLS certificate %s with key %s: %v", c.certFile, c.keyFile, err)
	}
	c.current.Store(&cert)
	return nil
}

func (c *certs) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil }
