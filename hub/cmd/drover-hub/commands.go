// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/drover-io/drover/hub"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/daemon"
)

const envPrefix = "DROVER_HUB_"

func root() *cobra.Command {
	c := &cobra.Command{
		Use: "drover-hub", Short: "The hub of a fleet of Kubernetes clusters",
		Long: `drover-hub is the hub of a fleet of Kubernetes clusters.

  drover-hub serve       run the hub; the first start creates everything it needs
  drover-hub backup      write all that the hub cannot make anew into one file
  drover-hub restore     make a hub's data dir of a backup
  drover-hub ca roots    print the root certificates that clients must trust
  drover-hub version`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &daemon.Error{Err: fmt.Errorf("unknown command %q", args[0]), Code: daemon.ExitUsage, Hint: "`drover-hub --help` lists the commands"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(serveCommand(), backupCommand(), restoreCommand(), caCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) { fmt.Fprintln(c.OutOrStdout(), daemon.VersionLine("drover-hub")) },
	})
	return c
}

// options are the flags of serve that are not fields of hub.Config.
type options struct {
	configFile, logLevel, logFormat string
	printConfig                     bool
}

func register(f *pflag.FlagSet, cfg *hub.Config, o *options) {
	f.StringVar(&cfg.DataDir, "data-dir", hub.DefaultDataDir, "everything the hub keeps: CA, keys, objects, samples")
	f.StringVar(&cfg.Listen, "listen", hub.DefaultListen, "the one address for agents and people, host:port; port 0 picks one")
	f.StringSliceVar(&cfg.Advertise, "advertise", nil, "https://host[:port] under which the hub is reached; repeatable (default: made of --listen and the host's name)")
	f.StringVar(&cfg.TLSCert, "tls-cert", "", "certificate for browsers, PEM (default: one of the hub's own CA)")
	f.StringVar(&cfg.TLSKey, "tls-key", "", "key of --tls-cert, PEM")
	f.StringVar(&cfg.CAPasswordFile, "ca-password-file", "", "password that encrypts the CA's keys on disk (default: file mode 0600 alone)")
	f.StringVar(&cfg.RegistryCredentials, "registry-credentials", "", "credentials for OCI registries with addons, a file in docker's form (config.json)")
	f.StringVar(&cfg.TrustDomain, "trust-domain", "", "name space of all identities, fixed at the first start (default: made of the root key)")
	f.DurationVar(&cfg.AgentTTL, "agent-ttl", 0, "life of agents' certificates (default 24h)")
	f.DurationVar(&cfg.LostAfter, "lost-after", 0, "how long an agent may be gone before its cluster counts as Unknown (default 15s)")
	f.DurationVar(&cfg.SampleEvery, "sample-every", 0, "pace of the agents' samples (default 10s)")
	f.Float64Var(&cfg.APIRate, "api-rate", 0, "requests a second that each user may send (default 100)")
	f.IntVar(&cfg.APIBurst, "api-burst", 0, "requests that each user may send at once after a pause (default 400)")
	f.Var(&cfg.OIDC, "oidc", "identity providers, a list best given in the file of --config; see docs/operate.md")
	f.DurationVar(&cfg.SessionIdle, "session-idle", 0, "ends a dashboard session that is not used (default 2h)")
	f.DurationVar(&cfg.SessionLife, "session-life", 0, "ends any dashboard session (default 12h)")
	f.DurationVar(&cfg.Audit.Keep, "audit-keep", 0, "how long audit records are kept (default: for ever)")
	f.StringVar(&cfg.Audit.PolicyFile, "audit-policy-file", "", "how much of which requests is recorded: a Policy of audit.k8s.io/v1 (default: metadata of every change)")
	f.StringVar(&cfg.Audit.LogPath, "audit-log-path", "", "file that gets every audit record as a line of JSON")
	f.IntVar(&cfg.Audit.LogMaxSize, "audit-log-maxsize", 100, "megabytes at which that file is put aside")
	f.IntVar(&cfg.Audit.LogMaxBackup, "audit-log-maxbackup", 0, "how many files put aside are kept (default: all)")
	f.StringVar(&cfg.Audit.WebhookConfigFile, "audit-webhook-config-file", "", "kubeconfig of a server that gets every audit record")
	f.StringVar(&cfg.UIDir, "ui-dir", "", "serve the dashboard from this directory, for who works on it (default: built in)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.configFile, daemon.ConfigFlag, "", "YAML file of these options, by their names")
	f.BoolVar(&o.printConfig, daemon.PrintConfigFlag, false, "print the merged options as YAML and exit")
}

func serveCommand() *cobra.Command {
	var cfg hub.Config
	var o options
	c := &cobra.Command{
		Use: "serve", Short: "Run the hub", Args: cobra.NoArgs,
		Long: `Runs the hub. The first start creates the CA, the keys, the streams and
DATA-DIR/admin.kubeconfig, an admin credential for kubectl and drover.
Every option can also be set as DROVER_HUB_NAME, and in the file of --config.`,
		RunE: func(c *cobra.Command, _ []string) error {
			file := o.configFile
			if file == "" {
				file = os.Getenv(envPrefix + "CONFIG")
			}
			if err := daemon.LoadOptions(c.Flags(), file, envPrefix, os.Environ()); err != nil {
				return err
			}
			if err := cfg.Validate(); err != nil {
				return err
			}
			if o.printConfig {
				fmt.Fprint(c.OutOrStdout(), daemon.PrintOptions(c.Flags()))
				return nil
			}
			log, err := daemon.NewLogger(o.logLevel, o.logFormat)
			if err != nil {
				return err
			}
			go tuneHeap(c.Context())
			defer log.Sync() //nolint:errcheck // standard error cannot be synced everywhere
			if err := daemon.TakeLibraryLogs(log); err != nil {
				return err
			}
			cfg.Log = log
			h, err := hub.New(cfg)
			if err != nil {
				return err
			}
			return daemon.Orderly(c.Context(), h.Run(c.Context()))
		},
	}
	register(c.Flags(), &cfg, &o)
	return c
}

func caCommand() *cobra.Command {
	c := &cobra.Command{Use: "ca", Short: "The hub's certificate authority", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var dataDir string
	roots := &cobra.Command{
		Use: "roots", Short: "Print the root certificates, PEM, and their pins", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := os.ReadFile(filepath.Join(dataDir, "pki", "roots.crt"))
			if err != nil {
				return daemon.Hint(err, "name the hub's directory with --data-dir; the CA is made at the first start")
			}
			certs, err := identity.ParseCerts(text)
			if err != nil {
				return err
			}
			fmt.Fprint(c.OutOrStdout(), string(text))
			for _, cert := range certs {
				fmt.Fprintf(c.ErrOrStderr(), "pin: %s\n", identity.CertFingerprint(cert))
			}
			return nil
		},
	}
	roots.Flags().StringVar(&dataDir, "data-dir", hub.DefaultDataDir, "of the hub")
	c.AddCommand(roots)
	return c
}
