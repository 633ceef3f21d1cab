//go:build !linux

package callrun

import "os/exec"

func leash(*exec.Cmd) {}
