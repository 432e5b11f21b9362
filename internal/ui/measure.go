package ui

import (
	"fmt"
	"strings"
	"time"
)

// size is n bytes in decimal units: "12 B", "1.2 kB", "443.2 MB".
func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n)/1000, "kMGTPE"
	for value >= 999.95 && len(units) > 1 {
		value /= 1000
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %cB", value, units[0])
}

// span is a duration as short as it can be said: "0.4s", "12.3s", "1m02s", "1h02m".
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		s := int(d.Round(time.Second).Seconds())
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	m := int(d.Round(time.Minute).Minutes())
	return fmt.Sprintf("%dh%02dm", m/60, m%60)
}

// shortKey is the first 16 hex digits of a key, in capitals.
func shortKey(key string) string {
	key = clean(key)
	return strings.ToUpper(key[:min(len(key), 16)])
}

// count is a number with its noun: "1 step", "2 steps".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// listing is names joined by commas, the first few if there are many.
func listing(steps []*step) string {
	const most = 8
	var b strings.Builder
	for i, s := range steps {
		if i == most && len(steps) > most+1 {
			fmt.Fprintf(&b, " and %d more", len(steps)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.shown)
	}
	return b.String()
}
