package settings

import "strings"

// Nearest returns the name most like the word, "" if none is like it: at most
// a third of its letters differ, counting a swap of neighbours as one
// difference (optimal string alignment).
func Nearest(word string, names []string) string {
	word = normal(word)
	best, least := "", max(1, len(word)/3)+1
	for _, name := range names {
		if d := distance(word, normal(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// normal makes the spellings of one name in flags, files and variables alike.
func normal(s string) string {
	return strings.ReplaceAll(strings.ToLower(s), "-", "_")
}

func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	for j := range rows[1] {
		rows[1][j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row := rows[0], rows[1], rows[2]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		rows = [3][]int{above, row, before}
	}
	return rows[1][len(b)]
}
