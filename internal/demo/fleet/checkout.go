package fleet

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// checkout takes orders and, for want of real ones, has customers who order.
type checkout struct {
	client  *http.Client
	forgets bool // v1 forgets abandoned carts, v2 does not

	mu     sync.Mutex
	carts  []*cart // abandoned ones
	orders int
}

// cart is what a customer put together and left behind.
type cart struct {
	Customer int       `json:"customer"`
	Items    []item    `json:"items"`
	At       time.Time `json:"at"`
}

// order is a cart that is paid for.
type order struct {
	Number   int    `json:"number"`
	Items    []item `json:"items"`
	Total    int    `json:"total"` // cents
	Receipt  string `json:"receipt"`
	Customer int    `json:"customer"`
}

const (
	orderEvery     = 25 * time.Millisecond // most orders of one process
	idleShare      = 3                     // a customer rests this many times as long as the order took
	paymentTakes   = 2 * time.Second
	signRounds     = 1500
	rememberedMost = 3000 // carts v2 keeps, so that the demo's leak ends at some tens of MB
)

func newCheckout(release string) *checkout {
	return &checkout{client: &http.Client{Timeout: 10 * time.Second}, forgets: release == Releases[0]}
}

// customers order without end. Resting for a multiple of the time an order
// took bounds the load of the whole demo on machines of any speed.
func (c *checkout) customers(peers Peers) {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for n := 0; ; n++ {
		began := time.Now()
		c.visit(n, random, peers)
		time.Sleep(max(orderEvery, idleShare*time.Since(began)))
	}
}

// visit is one customer who looks around, orders or leaves a cart behind.
func (c *checkout) visit(n int, random *rand.Rand, peers Peers) {
	word := words[random.Intn(len(words))]
	items, err := c.listItems(pick(peers[Catalog], n), word)
	if err != nil || len(items) == 0 {
		return
	}
	if _, err := c.get(pick(peers[Search], n)+"/similar?text="+url.QueryEscape(items[0].Name+" "+word), io.Discard); err != nil {
		return
	}
	body, err := json.Marshal(cart{Customer: n, Items: items, At: time.Now()})
	if err != nil {
		return
	}
	if n%3 == 0 {
		c.abandon(body)
		return
	}
	c.place(body)
}

func pick(urls []string, n int) string {
	if len(urls) == 0 {
		return ""
	}
	return urls[n%len(urls)]
}

func (c *checkout) listItems(base, word string) ([]item, error) {
	var body bytes.Buffer
	if _, err := c.get(base+"/items?word="+url.QueryEscape(word), &body); err != nil {
		return nil, err
	}
	var items []item
	err := json.Unmarshal(body.Bytes(), &items)
	return items, err
}

func (c *checkout) get(url string, to io.Writer) (int64, error) {
	resp, err := c.client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return io.Copy(to, resp.Body)
}

func (c *checkout) serveOrder(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o, err := c.place(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	json.NewEncoder(w).Encode(o)
}

// place makes an order of a cart and waits for its payment behind.
func (c *checkout) place(body []byte) (*order, error) {
	var k cart
	if err := json.Unmarshal(body, &k); err != nil {
		return nil, fmt.Errorf("read cart: %w", err)
	}
	o := &order{Items: k.Items, Customer: k.Customer, Receipt: sign(body)}
	for _, it := range k.Items {
		o.Total += it.Price
	}
	c.mu.Lock()
	c.orders++
	o.Number = c.orders
	c.mu.Unlock()
	go c.awaitPayment(o)
	return o, nil
}

// sign hashes a cart many times over, as a slow signature would.
func sign(body []byte) string {
	sum := sha256.Sum256(body)
	for range signRounds {
		sum = sha256.Sum256(append(sum[:], body[:min(64, len(body))]...))
	}
	return hex.EncodeToString(sum[:])
}

// awaitPayment holds the order until it is paid: at any time some dozens of
// goroutines wait here.
func (c *checkout) awaitPayment(o *order) {
	paid := make(chan int, 1)
	time.AfterFunc(paymentTakes, func() { paid <- o.Total })
	<-paid
}

// abandon keeps a cart for when the customer comes back. v1 forgets the older
// half at a hundred; v2 has lost that line.
func (c *checkout) abandon(body []byte) {
	var k cart
	if err := json.Unmarshal(body, &k); err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	most := rememberedMost
	if c.forgets {
		most = 100
	}
	c.carts = append(c.carts, &k)
	if len(c.carts) > most {
		c.carts = append([]*cart(nil), c.carts[len(c.carts)/2:]...)
	}
}
