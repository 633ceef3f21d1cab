package pack

import "testing"

func dictionaryOf(t testing.TB, size int) []byte {
	t.Helper()
	d, err := Train(sessions(t, 1, 500, size))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
