// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/drover-io/drover/agent"
	"github.com/drover-io/drover/shared/daemon"
)

const envPrefix = "DROVER_AGENT_"

// softMemory is from where on the collector works harder instead of letting the heap
// grow: an idle agent has a fifth of it, one that applies 10,000 objects reaches it.
const softMemory = 64 << 20

// options are the flags that join and run share.
type options struct {
	stateDir, kubeconfig, tokenFile, name string
	labels                                []string
	configFile, logLevel, logFormat       string
	printConfig                           bool
}

func (o *options) register(f *pflag.FlagSet) {
	f.StringVar(&o.stateDir, "state-dir", agent.DefaultStateDir, "identity and records of this agent, kept private")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "the cluster to manage (default: the one this runs in; none: node agent)")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the join token; - reads standard input")
	f.StringVar(&o.name, "name", "", "cluster name to join as (default: the token's, or the host's)")
	f.StringSliceVar(&o.labels, "label", nil, "label of the cluster, key=value; repeatable")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.configFile, daemon.ConfigFlag, "", "YAML file of these options, by their names")
	f.BoolVar(&o.printConfig, daemon.PrintConfigFlag, false, "print the merged options as YAML and exit")
}

// load completes the options and returns the configuration.
func (o *options) load(cmd *cobra.Command) (agent.Config, error) {
	file := o.configFile
	if file == "" {
		file = os.Getenv(envPrefix + "CONFIG")
	}
	if err := daemon.LoadOptions(cmd.Flags(), file, envPrefix, os.Environ()); err != nil {
		return agent.Config{}, err
	}
	labels, err := parseLabels(o.labels)
	if err != nil {
		return agent.Config{}, err
	}
	log, err := daemon.NewLogger(o.logLevel, o.logFormat)
	if err != nil {
		return agent.Config{}, err
	}
	if err := daemon.TakeLibraryLogs(log); err != nil {
		return agent.Config{}, err
	}
	return agent.Config{
		StateDir: o.stateDir, Kubeconfig: o.kubeconfig, TokenFile: o.tokenFile, Name: o.name, Labels: labels, Log: log,
	}, nil
}

func parseLabels(list []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, l := range list {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, daemon.Usage("label %q: want key=value", l)
		}
		labels[k] = v
	}
	return labels, nil
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use: "drover-agent", Short: "Manages one Kubernetes cluster, or one machine, for a Drover hub",
		Long: `drover-agent manages one Kubernetes cluster, or one machine, for a Drover hub.

  drover-agent join --token-file FILE    enrol this cluster; an operator approves it on the hub
  drover-agent run                       the daemon
  drover-agent status                    how the running daemon is doing
  drover-agent leave                     give up the identity; what was applied stays`,
		Args: noCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(joinCommand(), runCommand(), statusCommand(), leaveCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), daemon.VersionLine("drover-agent")) },
	})
	return c
}

func noCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &daemon.Error{Err: fmt.Errorf("unknown command %q", args[0]), Code: daemon.ExitUsage, Hint: "`drover-agent --help` lists the commands"}
}

func joinCommand() *cobra.Command {
	var o options
	var wait bool
	c := &cobra.Command{
		Use: "join", Short: "Enrol this cluster with a join token", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.load(c)
			if err != nil || o.printed(c) {
				return err
			}
			text, err := readToken(o.tokenFile, c.InOrStdin())
			if err != nil {
				return err
			}
			return agent.Join(c.Context(), cfg, agent.JoinOptions{
				Token: text, Wait: wait,
				Progress: func(format string, args ...any) { fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...) },
			})
		},
	}
	o.register(c.Flags())
	c.Flags().BoolVar(&wait, "wait", true, "wait for the operator's decision; --wait=false exits with 3 while it is open")
	c.Flags().String("token", "", "")
	c.Flags().MarkHidden("token") //nolint:errcheck // the flag exists
	c.PreRunE = refuseToken
	return c
}

// refuseToken keeps the secret out of the process list and the shell's history.
func refuseToken(c *cobra.Command, _ []string) error {
	if !c.Flags().Changed("token") {
		return nil
	}
	return &daemon.Error{
		Err:  errors.New("a token on the command line is refused: every user of this machine could read it"),
		Hint: "pass it on standard input: drover-agent join --token-file -", Code: daemon.ExitUsage,
	}
}

func readToken(file string, stdin io.Reader) (string, error) {
	switch file {
	case "":
		return "", daemon.Hint(daemon.Usage("token-file: a join token is needed"),
			"create one on the hub with `drover token create` and pass its file, or - for standard input")
	case "-":
		text, err := io.ReadAll(io.LimitReader(stdin, 1<<16))
		return string(text), err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", daemon.Hint(fmt.Errorf("token file: %w", err), "create a token on the hub with `drover token create`")
	}
	return string(text), nil
}

func (o *options) printed(c *cobra.Command) bool {
	if o.printConfig {
		fmt.Fprint(c.OutOrStdout(), daemon.PrintOptions(c.Flags()))
	}
	return o.printConfig
}

func runCommand() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use: "run", Short: "Run the daemon", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := o.load(c)
			if err != nil || o.printed(c) {
				return err
			}
			defer cfg.Log.Sync() //nolint:errcheck // standard error cannot be synced everywhere
			a, err := agent.New(cfg)
			if err != nil {
				return err
			}
			if os.Getenv("GOMEMLIMIT") == "" {
				debug.SetMemoryLimit(softMemory)
			}
			err = daemon.Orderly(c.Context(), a.Run(c.Context()))
			cfg.Log.Info("agent stopped", zap.Error(err))
			return err
		},
	}
	o.register(c.Flags())
	return c
}

func statusCommand() *cobra.Command {
	var stateDir, output string
	c := &cobra.Command{
		Use: "status", Short: "Show how the running daemon is doing", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return daemon.Usage("output %q: want json, or nothing for text", output)
			}
			st, err := agent.AskStatus(c.Context(), agent.Config{StateDir: stateDir})
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(st)
			}
			return printStatus(c.OutOrStdout(), st)
		},
	}
	c.Flags().StringVar(&stateDir, "state-dir", agent.DefaultStateDir, "of the running agent")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

func printStatus(out io.Writer, st agent.Status) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+":\t"+format+"\n", args...) }
	row("cluster", "%s", st.Cluster)
	row("hub", "%s", strings.Join(st.Hub, ", "))
	state := "not connected"
	if st.Connected {
		state = "connected"
	}
	if !st.Since.IsZero() {
		state += " since " + st.Since.Format(time.RFC3339)
	}
	row("connection", "%s", state)
	if st.LastError != "" {
		row("last error", "%s", st.LastError)
	}
	if st.Hint != "" {
		row("hint", "%s", st.Hint)
	}
	if st.NextAttempt != nil {
		row("next attempt", "%s", st.NextAttempt.Format(time.RFC3339))
	}
	row("fingerprint", "%s", st.Fingerprint)
	row("certificate", "valid until %s", st.CertificateEnd.Format(time.RFC3339))
	kubernetes := st.Kubernetes
	if kubernetes == "" {
		kubernetes = "none (node agent), or not reached yet"
	}
	row("kubernetes", "%s", kubernetes)
	row("unsent reports", "%d", st.Queue)
	row("version", "%s", st.Version)
	row("works", "%d", len(st.Works))
	for _, x := range st.Works {
		line := fmt.Sprintf("%d objects, %d applied, %d healthy", x.Objects, x.Applied, x.Healthy)
		if x.Error != "" {
			line += "; " + x.Error
		}
		row("  "+x.Name, "%s", line)
	}
	return w.Flush()
}

func leaveCommand() *cobra.Command {
	var stateDir string
	var yes bool
	c := &cobra.Command{
		Use: "leave", Short: "Give up this agent's identity; what was applied stays", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := daemon.NewLogger("info", "text")
			if err != nil {
				return err
			}
			cfg := agent.Config{StateDir: stateDir, Log: log}
			if !yes {
				fmt.Fprintf(c.ErrOrStderr(), "The identity in %s will be deleted; joining again needs a new token.\n"+
					"Objects that were applied stay on the cluster. Continue? [y/N] ", stateDir)
				answer, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n')
				if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
					return errors.New("nothing was changed")
				}
			}
			if err := agent.Leave(cfg); err != nil {
				return err
			}
			fmt.Fprintln(c.ErrOrStderr(), "left; remove the cluster on the hub with: drover cluster remove NAME")
			return nil
		},
	}
	c.Flags().StringVar(&stateDir, "state-dir", agent.DefaultStateDir, "of the agent")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
