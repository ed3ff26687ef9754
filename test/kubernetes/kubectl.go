// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // as in the real kubectl
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// kubectl runs kubectl with args, of which the first is the program's name.
// Like the real one it ends the process itself on most errors.
func kubectl(args []string) int {
	// kubectl reads os.Args in several places, not only while it builds its
	// command.
	os.Args = append([]string{"kubectl"}, args[1:]...)

	// Before the command is built, because building it already logs.
	_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
	return exitOK
}
