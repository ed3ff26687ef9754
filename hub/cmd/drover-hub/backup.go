// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/drover-io/drover/hub"
	"github.com/drover-io/drover/hub/backup"
	"github.com/drover-io/drover/shared/daemon"
)

func backupCommand() *cobra.Command {
	var dataDir string
	var force bool
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write all that the hub cannot make anew into one file", Args: cobra.ExactArgs(1),
		Long: `Writes the hub's objects, its CA and its certificates' records into FILE, a
gzipped tar with mode 0600. The hub may run, and be written to, meanwhile.

FILE holds the CA's private keys: keep it as safe as the hub itself. Keys that
--ca-password-file encrypts stay encrypted; keep the password elsewhere.
Not in it: samples, admin.kubeconfig (made anew), options, and files outside
the data dir, such as --tls-cert and --tls-key.`,
		RunE: func(c *cobra.Command, args []string) error {
			m, err := backup.Save(c.Context(), dataDir, args[0], force)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "%s: %d objects at revision %d, %d records of the CA, trust domain %s\n",
				args[0], m.Objects, m.Revision, m.Records, m.TrustDomain)
			return nil
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", dataDirDefault(), "of the hub")
	c.Flags().BoolVar(&force, "force", false, "overwrite FILE")
	return c
}

func restoreCommand() *cobra.Command {
	var dataDir string
	c := &cobra.Command{
		Use: "restore FILE", Short: "Make a hub's data dir of a backup", Args: cobra.ExactArgs(1),
		Long: `Makes a data dir of FILE, which "drover-hub backup" wrote. The data dir must be
empty or not exist; stop the old hub for good first. Everything is verified
before anything is written.

Start the hub at the address it had, with the options it had: agents come back
by themselves. Join tokens are void. What changed after the backup is lost:
clusters that joined since must join again, and those revoked or removed since
are back.`,
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return daemon.Hint(err, "name a file that `drover-hub backup` wrote")
			}
			defer file.Close() //nolint:errcheck // it was read
			r, err := backup.Restore(c.Context(), file, dataDir, time.Now())
			if err != nil {
				return err
			}
			w := c.ErrOrStderr()
			fmt.Fprintf(w, "%s: restored the hub of %s: %d objects of trust domain %s\n",
				dataDir, r.Time.Format(time.RFC3339), r.Objects, r.TrustDomain)
			fmt.Fprintf(w, "join tokens made void: %d; new revisions begin at %d\n", r.Tokens, r.First)
			for _, name := range []string{"listen", "advertise"} {
				if v := r.Settings[name]; v != "" {
					fmt.Fprintf(w, "it ran with --%s %s\n", name, v)
				}
			}
			fmt.Fprintf(w, "hint: revoke and remove again what was revoked and removed after %s\n", r.Time.Format(time.RFC3339))
			return nil
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", dataDirDefault(), "to make")
	return c
}

// dataDirDefault is where serve would look without a file of options.
func dataDirDefault() string {
	if dir := os.Getenv(envPrefix + "DATA_DIR"); dir != "" {
		return dir
	}
	return hub.DefaultDataDir
}
