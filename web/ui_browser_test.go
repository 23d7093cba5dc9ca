package web_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/goinquest/inquest/internal/chromium"
	"github.com/goinquest/inquest/internal/proc"
)

// patience is how long a page may take to become what a test waits for.
const patience = 20 * time.Second

// findBrowser returns the path of a Chromium.
func findBrowser(t testing.TB) string {
	t.Helper()
	path, err := chromium.Find()
	if err != nil {
		proc.Missing(t, "a browser (chromium, chromium-browser or google-chrome) is not on PATH")
	}
	return path
}

// browser is a running Chromium.
type browser struct{ ctx context.Context }

// startBrowser starts a browser with an empty profile; it ends with the test.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	ctx, stop, err := chromium.Start(findBrowser(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Logf("end browser: %v", err)
		}
	})
	return &browser{ctx}
}

// tab is a page with cookies and storage of its own.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu       sync.Mutex
	messages []string // errors and warnings of the console, violations of the content policy among them
}

// tab opens an empty page. What its console says is checked at the end of the
// test, but for messages that hold one of allowed.
func (br *browser) tab(t testing.TB, width, height int, allowed ...string) *tab {
	t.Helper()
	ctx, stop := chromedp.NewContext(br.ctx, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.Type == chromedp.ConsoleWarning || m.IsException() {
				b.mu.Lock()
				b.messages = append(b.messages, fmt.Sprintf("%s (%s:%d)", m.String(), m.URL, m.Line))
				b.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("close tab: %v", err)
		}
		stop()
		listening.Wait()
		b.checkConsole(allowed)
	})
	b.resize(width, height)
	return b
}

func (b *tab) checkConsole(allowed []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, m := range b.messages {
		for _, a := range allowed {
			if strings.Contains(m, a) {
				continue next
			}
		}
		b.t.Errorf("browser's console: %s", m)
	}
}

// do runs steps, which must succeed.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to an address.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.Navigate(url))
}

// eval evaluates JavaScript (a promise is awaited) to a value.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 4*patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](js, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%.200s: %v", js, err)
	}
	return v
}

// wait waits until a condition in JavaScript holds.
func (b *tab) wait(what, condition string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+condition+")"))
		cancel()
		if err == nil && ok {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	b.t.Fatalf("waited %v for: %s\n%s\nthe page says: %.1500s", patience, what, condition, eval[string](b, `location.href + "\n" + document.body.innerText`))
}

// text is the text of the first element of a selector.
func (b *tab) text(selector string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q).textContent", selector))
}

// param is a parameter of the page's address.
func (b *tab) param(name string) string {
	b.t.Helper()
	return eval[string](b, fmt.Sprintf(`new URLSearchParams(location.search).get(%q) ?? ""`, name))
}

// resize changes the size of the window.
func (b *tab) resize(width, height int) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(int64(width), int64(height)))
}

// reload loads the page again.
func (b *tab) reload() {
	b.t.Helper()
	b.do(chromedp.Reload())
}

// click clicks the first element of a selector.
func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// set gives a field a value as a person would.
func (b *tab) set(selector, value, event string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`{ const f = document.querySelector(%q); f.value = %q; f.dispatchEvent(new Event(%q, {bubbles: true})) }`, selector, value, event))
}

// focus puts the keyboard on an element.
func (b *tab) focus(selector string) {
	b.t.Helper()
	eval[any](b, fmt.Sprintf(`document.querySelector(%q).focus()`, selector))
}

// shortcut presses a key that must not type its character.
func (b *tab) shortcut(key string) {
	b.t.Helper()
	if !eval[bool](b, fmt.Sprintf(`!document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: %q, bubbles: true, cancelable: true}))`, key)) {
		b.t.Errorf("nobody took the key %q", key)
	}
}

// key presses keys where the focus is.
func (b *tab) key(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// place is where an element is, in CSS px.
type place struct{ X, Y, W, H float64 }

func (b *tab) place(selector string) place {
	b.t.Helper()
	return eval[place](b, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return {X: r.left, Y: r.top, W: r.width, H: r.height} })()`, selector))
}

// move moves the pointer.
func (b *tab) move(x, y float64) {
	b.t.Helper()
	b.do(chromedp.MouseEvent(chromedp.MouseMoved, x, y))
}

// drag presses at one point and lets go at another.
func (b *tab) drag(x0, y0, x1, y1 float64) {
	b.t.Helper()
	b.do(
		chromedp.MouseEvent(chromedp.MouseMoved, x0, y0),
		chromedp.MouseEvent(chromedp.MousePressed, x0, y0, chromedp.ButtonLeft, chromedp.ClickCount(1)),
		chromedp.MouseEvent(chromedp.MouseMoved, (x0+x1)/2, (y0+y1)/2, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseMoved, x1, y1, chromedp.ButtonLeft),
		chromedp.MouseEvent(chromedp.MouseReleased, x1, y1, chromedp.ButtonLeft, chromedp.ClickCount(1)),
	)
}

// prefer sets the colour scheme the system prefers.
func (b *tab) prefer(scheme string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdp.Call(ctx, target, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}))
}

// shot writes a picture of the page into the directory named by
// INQUEST_SCREENSHOTS, for people to look at.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("INQUEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// Keys without a character.
const (
	keyDown   = kb.ArrowDown
	keyUp     = kb.ArrowUp
	keyRight  = kb.ArrowRight
	keyEnter  = kb.Enter
	keyEscape = kb.Escape
)
