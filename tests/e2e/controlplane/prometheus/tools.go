//go:build tools

// Package prometheus pins a program that the end-to-end tests run.
package prometheus

import (
	_ "github.com/prometheus/prometheus/cmd/prometheus"
)
