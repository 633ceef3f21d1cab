package kvstore

import (
	"testing"
	"time"
)

// The wait keeps its bounds, whatever they are and however long the outage.
func TestBackoffStaysInBounds(t *testing.T) {
	db := &DB[int]{opt: Options{RetryMin: 5 * time.Second, RetryMax: 10 * time.Second}}
	for n := range 61 {
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("after %d failures in a row: panic: %v", n, p)
				}
			}()
			if w := time.Duration(db.backoff(n)); w > 10*time.Second {
				t.Errorf("after %d failures: %v", n, w)
			}
		}()
	}
}
