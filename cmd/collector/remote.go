package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goinquest/inquest"
	"github.com/goinquest/inquest/internal/settings"
)

// place says whose data a command is about: a directory that no collector
// has open, or what a running collector has.
type place struct {
	Data      string
	URL       string
	TokenFile string
	CA        string
}

func (p *place) define(s *settings.Set) {
	s.String(&p.Data, "data", "", "data `DIRECTORY` of a collector that does not run; without it the one a collector would use").Path = true
	s.String(&p.URL, "url", "", "`URL` of a running collector, to ask that instead, as http://127.0.0.1:7070")
	s.String(&p.TokenFile, "token-file", "", "`FILE` that holds a token with the scope admin, for -url").Path = true
	s.String(&p.CA, "tls-ca", "", "PEM `FILE` with certificates to trust the collector by, for -url").Path = true
}

// check completes and checks what was given.
func (p *place) check(s *settings.Set) error {
	if p.URL != "" {
		if s.Lookup("data").Source() == "flag -data" {
			return settings.Errorf("-data and -url exclude each other: the one is of a collector that does not run, the other of one that does")
		}
		if u, err := url.Parse(p.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return settings.Errorf("-url %q: want one such as http://127.0.0.1:7070", p.URL)
		}
		return nil
	}
	var err error
	if p.Data == "" {
		p.Data, err = defaultData()
	}
	return err
}

// storeDir is the directory of the store in a data directory.
func storeDir(data string) string { return filepath.Join(data, "store") }

// existing is the directory of a store that is there.
func (p *place) existing() (string, error) {
	dir := storeDir(p.Data)
	if _, err := os.Stat(dir); err != nil {
		return "", settings.Errorf("there is no data in %s (%w); give the -data of the collector, or the -url of a running one", p.Data, err)
	}
	return dir, nil
}

// call makes a request and returns the answer's body; the caller closes it.
func (p *place) call(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	client, err := p.client()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(p.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set(inquest.HeaderProtocol, strconv.Itoa(inquest.ProtocolVersion))
	if p.TokenFile != "" {
		token, err := os.ReadFile(p.TokenFile)
		if err != nil {
			return nil, settings.Errorf("-token-file: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("reach the collector at %s: %w", p.URL, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal is the error a collector answers with.
func refusal(resp *http.Response) error {
	var doc struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err != nil || json.Unmarshal(raw, &doc) != nil || doc.Error.Message == "" {
		doc.Error.Message = http.StatusText(resp.StatusCode)
	}
	kind := inquest.StatusError(resp.StatusCode)
	if kind == nil {
		return fmt.Errorf("the collector answers %d: %s", resp.StatusCode, doc.Error.Message)
	}
	return inquest.Errorf(kind, "the collector answers %d: %s", resp.StatusCode, doc.Error.Message)
}

// client is a client that trusts what -tls-ca names.
func (p *place) client() (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true // one request is all there is
	if p.CA != "" {
		pem, err := os.ReadFile(p.CA)
		if err != nil {
			return nil, settings.Errorf("-tls-ca: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, settings.Errorf("-tls-ca: %s has no certificate in PEM form", p.CA)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	return &http.Client{Transport: t}, nil
}
