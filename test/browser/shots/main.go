// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

// Command shots writes pictures of every page of the dashboard: of an empty hub, a
// busy one and one in trouble; light, dark and as narrow as a phone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/drover-io/drover/test/browser"
	"github.com/drover-io/drover/test/local"
)

func main() {
	programs := flag.String("programs", "bin", "where drover-hub and drover are")
	out := flag.String("out", "bin/screenshots", "where the pictures go")
	only := flag.String("only", "", "regular expression of the names to write, such as busy-fleet-dark")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, local.Programs(*programs), *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "shots:", err)
		os.Exit(1)
	}
}

// state of a hub that pictures are taken of.
type state struct {
	name  string
	fleet browser.Fleet
	pages map[string]string // path by name
	// running adds a cluster that exists.
	running bool
}

func states() []state {
	one, real := browser.Name(3), "/clusters/"+browser.Real
	all := map[string]string{
		"fleet": "/", "table": "/?view=table", "requests": "/requests", "tokens": "/tokens", "token-new": "/tokens?new=1",
		"cluster": "/clusters/" + one, "works": "/clusters/" + one + "/works", "work": "/clusters/" + one + "/works/web",
		"cluster-addons": real + "/addons?why=" + browser.Addon, "cluster-charts": real, "cluster-remove": real + "?do=remove",
		"addons": "/addons", "addon": "/addons/" + browser.Addon, "addon-install": "/addons/" + browser.Addon + "?do=install&v=1.5.0&on=env%3Dprod",
		"version": "/addons/" + browser.Addon + "/versions/1.5.0", "version-diff": "/addons/" + browser.Addon + "/versions/1.5.0?from=1.4.0", "audit": "/trail", "hub": "/hub", "access": "/access", "missing": "/nowhere",
	}
	return []state{
		{"empty", browser.Fleet{}, map[string]string{
			"fleet": "/", "requests": "/requests", "tokens": "/tokens", "addons": "/addons", "audit": "/trail",
		}, false},
		{"busy", browser.Fleet{Clusters: 240}, all, true},
		{"failing", browser.Fleet{Clusters: 60, Trouble: true}, map[string]string{
			"fleet": "/", "table": "/?view=table", "cluster": "/clusters/" + browser.Name(5), "works": "/clusters/" + one + "/works",
		}, false},
	}
}

func run(ctx context.Context, programs local.Programs, out, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("only: %w", err)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, s := range states() {
		if err := s.shoot(ctx, programs, out, wanted); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// add adds a cluster that exists, and an agent that asks to join.
func (s state) add(ctx context.Context, h *local.Hub, dir string) (end func(), err error) {
	stop, err := browser.Running(ctx, h, dir, "test/browser/testdata")
	if err != nil {
		return nil, err
	}
	file, err := h.Token(ctx, "paris-2")
	if err != nil {
		stop()
		return nil, err
	}
	join, err := h.Programs.Start(h.Path("paris-2.log"), "drover-agent", "join", "--token-file", file, "--state-dir", h.Path("paris-2"))
	if err != nil {
		stop()
		return nil, err
	}
	end = func() {
		join.Kill()
		stop()
	}
	err = local.Until(ctx, "the agent asks to join", time.Minute, join, func() (bool, error) {
		out, err := h.Drover(ctx, "requests")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "paris-2") {
				s.pages["approve"] = "/requests?approve=" + strings.Fields(line)[0]
				return true, nil
			}
		}
		return false, err
	})
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

func (s state) shoot(ctx context.Context, programs local.Programs, out string, wanted *regexp.Regexp) error {
	dir, err := os.MkdirTemp("", "drover-shots-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	h, err := programs.StartHub(ctx, dir, "127.0.0.1:0", browser.Options()...)
	if err != nil {
		return err
	}
	defer h.Process.Stop(20 * time.Second)
	if s.fleet.Clusters > 0 {
		if err := browser.Seed(ctx, h, s.fleet); err != nil {
			return err
		}
	}
	if s.running {
		end, err := s.add(ctx, h, filepath.Join(dir, "kubernetes"))
		if err != nil {
			return err
		}
		defer end()
	}
	b, err := browser.Start(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	tall := map[string]bool{"cluster-charts": true}
	for _, form := range []struct {
		name          string
		width, height int64
		dark          bool
	}{{"light", 1280, 800, false}, {"dark", 1280, 800, true}, {"narrow", 390, 844, false}, {"tall", 1280, 850, false}} {
		p, err := b.Open(form.width, form.height)
		if err != nil {
			return err
		}
		if err := p.Login(h); err != nil {
			return err
		}
		for name, path := range s.pages {
			file := strings.Join([]string{s.name, name, form.name}, "-") + ".png"
			if !wanted.MatchString(file) || form.name == "tall" && !tall[name] {
				continue
			}
			if err := p.Dark(form.dark); err != nil {
				return err
			}
			if err := p.Go(h, path); err != nil {
				return err
			}
			if err := p.Settled(); err != nil {
				return err
			}
			png, err := p.Screenshot()
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(out, file), png, 0o644); err != nil {
				return err
			}
			fmt.Println(file)
		}
		p.Close()
	}
	return nil
}
