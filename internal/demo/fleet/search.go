package fleet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"sync"
)

// search answers which documents are like a text, by the words they share.
type search struct {
	documents []string
	index     map[string][]int // word → documents that have it

	mu    sync.Mutex
	cache map[string][]byte // query → answer, thrown away when full
}

// hit is one document of an answer.
type hit struct {
	Document int     `json:"document"`
	Score    float64 `json:"score"`
	Text     string  `json:"text"`
}

const (
	shards      = 4  // goroutines that score one query
	cachedMost  = 24 // answers kept
	answersMost = 40 // hits in one answer
)

func newSearch() *search {
	s := &search{index: make(map[string][]int), cache: make(map[string][]byte)}
	for i := range 1200 {
		var text strings.Builder
		for j := range 24 {
			fmt.Fprintf(&text, "%s ", words[(i*(j+3)+j*j)%len(words)])
		}
		s.documents = append(s.documents, text.String())
		for _, w := range tokens(text.String()) {
			s.index[w] = append(s.index[w], i)
		}
	}
	return s
}

func (s *search) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.FormValue("text")
	answer, ok := s.cached(query)
	if !ok {
		answer = compress(s.rank(tokens(query)))
		s.keep(query, answer)
	}
	w.Header().Set("Content-Encoding", "gzip")
	w.Header().Set("Content-Type", "application/json")
	w.Write(answer)
}

func (s *search) cached(query string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, ok := s.cache[query]
	return answer, ok
}

func (s *search) keep(query string, answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) >= cachedMost {
		clear(s.cache)
	}
	s.cache[query] = answer
}

// rank scores the documents in shards, which meet at one lock.
func (s *search) rank(query []string) []hit {
	scores := make(map[int]float64)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for shard := range shards {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for _, word := range query {
				s.score(word, shard, &mu, scores)
			}
		}()
	}
	wg.Wait()
	return s.best(scores)
}

func (s *search) score(word string, shard int, mu *sync.Mutex, scores map[int]float64) {
	documents := s.index[word]
	mu.Lock()
	defer mu.Unlock()
	for _, d := range documents {
		if d%shards == shard {
			scores[d] += 1000 / float64(len(documents))
		}
	}
}

func (s *search) best(scores map[int]float64) []hit {
	hits := make([]hit, 0, len(scores))
	for d, score := range scores {
		hits = append(hits, hit{d, score, s.documents[d]})
	}
	sort.Slice(hits, func(i, j int) bool {
		if hits[i].Score != hits[j].Score {
			return hits[i].Score > hits[j].Score
		}
		return hits[i].Document < hits[j].Document
	})
	return hits[:min(len(hits), answersMost)]
}

// tokens splits a text into its distinct words, in order.
func tokens(text string) []string {
	seen := make(map[string]bool)
	var out []string
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' }) {
		if !seen[w] {
			seen[w] = true
			out = append(out, w)
		}
	}
	return out
}

func compress(hits []hit) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	json.NewEncoder(z).Encode(hits)
	z.Close()
	return b.Bytes()
}
