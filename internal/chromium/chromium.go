// Package chromium finds and starts a headless browser for tests.
package chromium

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/chromedp/chromedp"
)

// Find returns the path of a Chromium.
func Find() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no browser on PATH: chromium, chromium-browser or google-chrome")
}

// Start runs the browser at path with an empty profile of its own, talking to
// nobody but the pages it is sent to. ctx is its first tab; stop ends it and
// removes the profile.
func Start(path string) (ctx context.Context, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "inquest-browser-")
	if err != nil {
		return nil, nil, fmt.Errorf("make a browser profile: %w", err)
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(dir), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true), chromedp.Flag("disable-background-timer-throttling", true),
	)
	ctx, stopTab := chromedp.NewContext(alloc)
	stop = func() error {
		err := chromedp.Cancel(ctx)
		stopTab()
		stopAlloc()
		// The browser's children may write for a moment after it ended.
		for range 50 {
			if os.RemoveAll(dir) == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		return err
	}
	if err := chromedp.Do(ctx); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start %s: %w", path, err), stop())
	}
	return ctx, stop, nil
}
