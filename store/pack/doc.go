// Package pack compresses values on their way to a store.
package pack
