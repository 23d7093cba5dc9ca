package fleet

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"sort"
	"strings"
	"sync"
)

// item is one thing the shop sells.
type item struct {
	ID    int      `json:"id"`
	Name  string   `json:"name"`
	Price int      `json:"price"` // cents
	Tags  []string `json:"tags"`
	Seen  int      `json:"seen"` // how often it was listed
}

// cheap is the price in cents below which an item may be an offer.
const cheap = 2500

// catalog answers which items match a word.
type catalog struct {
	recompiles bool // the regression of v2

	mu    sync.Mutex
	items []*item
}

var words = strings.Fields(`amber anchor basket birch candle canvas cedar copper cotton ember feather fern
	flint garnet ginger hazel indigo iron ivory jasper kettle lantern linen maple marble mint moss oak olive
	onyx opal paper pebble pine quartz reed river saffron sage sand silk silver slate stone thistle walnut wool`)

func newCatalog(release string) *catalog {
	c := &catalog{recompiles: release != Releases[0]}
	for i := range 600 {
		a, b := words[i%len(words)], words[i*7%len(words)]
		c.items = append(c.items, &item{
			ID: i, Name: fmt.Sprintf("%s %s no. %d", a, b, i), Price: 100 + i*37%9900,
			Tags: []string{a, b, words[i*13%len(words)]},
		})
	}
	return c
}

func (c *catalog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := c.find(r.FormValue("word"))
	sortByPrice(found)
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(found)
}

// find copies the items that match; the lock is held for all of it.
func (c *catalog) find(word string) []item {
	c.mu.Lock()
	defer c.mu.Unlock()
	pattern := wordPattern(word)
	var found []item
	for _, it := range c.items {
		if c.recompiles && it.Price < cheap {
			pattern = wordPattern(word)
		}
		if matches(pattern, it) {
			it.Seen++
			found = append(found, *it)
		}
	}
	return found
}

func wordPattern(word string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)(^|\W)` + regexp.QuoteMeta(word) + `s?(\W|$)|no\. \d*7$`)
}

func matches(pattern *regexp.Regexp, it *item) bool {
	return pattern.MatchString(it.Name) || pattern.MatchString(strings.Join(it.Tags, " "))
}

func sortByPrice(items []item) {
	sort.Slice(items, func(i, j int) bool {
		if items[i].Price != items[j].Price {
			return items[i].Price < items[j].Price
		}
		return items[i].Name < items[j].Name
	})
}
