package kvstore

import (
	"errors"
	"reflect"
	"testing"
)

func tellsNil[V any](t *testing.T, some V) {
	t.Helper()
	of := reflect.TypeFor[V]()
	isNil := nilTest[V](of)
	var none V
	if isNil == nil || !isNil(&none) || isNil(&some) {
		t.Errorf("a nil %v is not told from one that is not nil", of)
	}
}

func hasNoNil[V any](t *testing.T) {
	t.Helper()
	if of := reflect.TypeFor[V](); nilTest[V](of) != nil {
		t.Errorf("%v is said to have a nil", of)
	}
}

// TestNilOfEachKind: every type of which a value can be nil. What that does to a Put is TestNilValues.
func TestNilOfEachKind(t *testing.T) {
	tellsNil(t, new(int))
	tellsNil(t, map[string]int{})
	tellsNil(t, []int{})
	tellsNil(t, []struct{}{})
	tellsNil[any](t, 0)
	tellsNil[any](t, (*int)(nil)) // a value: a pointer that is nil, as its codec sees it
	tellsNil(t, errors.New("one with methods"))
	hasNoNil[int](t)
	hasNoNil[string](t)
	hasNoNil[[0]int](t)
	hasNoNil[struct{ p *int }](t)
}
