//go:build !race

package etcd

import "os"

var server = os.Executable
