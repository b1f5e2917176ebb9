//go:build tools

// Package contour pins a program that the end-to-end tests run.
package contour

import (
	_ "github.com/projectcontour/contour/cmd/contour"
)
