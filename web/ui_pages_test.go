package web_test

import "testing"

// TestPages looks at every page in a real browser, which the parts share: each
// has a tab, cookies and storage of its own.
func TestPages(t *testing.T) {
	br := startBrowser(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *browser)
	}{
		{"FlameGraphFrames", testFlameGraphFrames},
		{"ExploreShowsWhatTheAPISays", testExploreShowsWhatTheAPISays},
		{"ExploreStateIsItsURL", testExploreStateIsItsURL},
		{"ExploreTimeAndFilters", testExploreTimeAndFilters},
		{"ExploreTypes", testExploreTypes},
		{"ThemesAndWidths", testThemesAndWidths},
		{"ExploreSource", testExploreSource},
		{"ExploreSourceOfLevels", testExploreSourceOfLevels},
		{"ListingOfManyLines", testListingOfManyLines},
		{"ErrorPages", testErrorPages},
		{"LoginPage", testLoginPage},
		{"TargetsPage", testTargetsPage},
		{"BuildsPage", testBuildsPage},
		{"BuildPage", testBuildPage},
		{"BuildPageWithTokens", testBuildPageWithTokens},
		{"BuildsThemesAndWidths", testBuildsThemesAndWidths},
		{"BuildsEmpty", testBuildsEmpty},
		{"CrashPages", testCrashPages},
		{"CrashesThemesAndWidths", testCrashesThemesAndWidths},
		{"SnapshotDialog", testSnapshotDialog},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, br) })
	}
}
