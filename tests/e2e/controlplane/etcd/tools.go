//go:build tools

// Package etcd pins a program that the end-to-end tests run.
package etcd

import (
	_ "go.etcd.io/etcd/server/v3"
)
