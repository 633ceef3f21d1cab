//go:build !unix

package main

func processTime() (float64, bool) { return 0, false }
