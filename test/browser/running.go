// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package browser

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/drover-io/drover/agent/link"
	"github.com/drover-io/drover/pki/identity"
	"github.com/drover-io/drover/shared/client"
	"github.com/drover-io/drover/shared/wire"
	"github.com/drover-io/drover/test/kube"
	"github.com/drover-io/drover/test/local"
)

// Real is the name of the cluster of Running.
const Real = "frankfurt-1"

// Addon is installed on the cluster of Running, and on some that Seed stored; it has
// two versions.
const Addon = "logging"

// Running adds a cluster that exists to a seeded fleet, with samples of the last
// hour, an addon and a work. stop ends it. dir is of the cluster alone, content the
// directory testdata of this package.
func Running(ctx context.Context, h *local.Hub, dir, content string) (stop func(), err error) {
	k, err := kube.Start(ctx, kube.Options{Dir: dir, Metrics: true})
	if err != nil {
		return nil, err
	}
	stops := []func(){func() { _ = k.Stop() }}
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	defer func() {
		if err != nil {
			stop()
			stop = nil
		}
	}()
	if err = h.Join(ctx, Real, "--kubeconfig", k.Kubeconfig); err != nil {
		return nil, err
	}
	if err = hour(ctx, h); err != nil {
		return nil, fmt.Errorf("send samples: %w", err)
	}
	agent, err := h.StartAgent(Real, "--kubeconfig", k.Kubeconfig)
	if err != nil {
		return nil, err
	}
	stops = append(stops, func() { agent.Stop(20 * time.Second) })
	if err = h.Available(ctx, Real, agent); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"cluster", "label", Real, "env=prod", "region=eu-1"},
		{"addon", "push", Addon + "@1.4.0", content + "/hello", "--default", "--description", "Two replicas"},
		{"addon", "push", Addon + "@1.5.0", content + "/hello-next", "--description", "A service, and three replicas"},
		{"addon", "install", Addon, "--cluster", Real, "--wait"},
	} {
		if _, err = h.Drover(ctx, args...); err != nil {
			return nil, err
		}
	}
	return stop, installed(ctx, h)
}

// installed puts the addon on seeded clusters too, and reports for their agents.
func installed(ctx context.Context, h *local.Hub) error {
	for i := range 12 {
		if _, err := h.Drover(ctx, "addon", "install", Addon, "--cluster", Name(i)); err != nil {
			return err
		}
	}
	hub, err := client.New(h.Kubeconfig(), "")
	if err != nil {
		return err
	}
	works := hub.Resource(gvr("work"+ocm, "v1", "manifestworks"))
	// Clusters that are away get nothing before they are back.
	return local.Until(ctx, "the works of the addon", time.Minute, h.Process, func() (bool, error) {
		list, err := works.List(ctx, metav1.ListOptions{LabelSelector: "open-cluster-management.io/addon-name=" + Addon})
		if err != nil {
			return false, err
		}
		done := 0
		for i := range list.Items {
			w := &list.Items[i]
			if w.GetNamespace() == Real {
				continue
			}
			conditions := []any{
				condition("Applied", "True", "AppliedManifestWorkComplete", "Apply manifest work complete", time.Hour),
				condition("Available", "True", "ResourcesAvailable", "All resources are available", time.Hour),
				condition("Healthy", "True", "ResourcesHealthy", "All resources are as desired and ready", time.Hour),
			}
			if w.GetNamespace() == Name(7) {
				conditions[2] = condition("Healthy", "False", "ResourcesFailed", "1 of 4 resources are not ready; Deployment hello/web: containers fail: CrashLoopBackOff", 12*time.Minute)
			}
			for _, c := range conditions {
				c.(object)["observedGeneration"] = w.GetGeneration()
			}
			patch, err := json.Marshal(object{"status": object{"conditions": conditions}})
			if err != nil {
				return false, err
			}
			if _, err := works.Namespace(w.GetNamespace()).Patch(ctx, w.GetName(), types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
				return false, err
			}
			done++
		}
		return done >= 8, nil
	})
}

// hour sends the samples of the last hour, as an agent does that was away.
func hour(ctx context.Context, h *local.Hub) error {
	files := identity.NewFiles(h.Path(Real, "identity"))
	cred, err := files.Load()
	if err != nil {
		return err
	}
	domain, name, err := cred.ClusterID()
	if err != nil {
		return err
	}
	l, err := link.New(link.Config{
		URLs: []string{h.URL}, Cluster: name, TrustDomain: domain, Log: zap.NewNop(),
		TLS: func() *tls.Config {
			return identity.ClientTLS(identity.ClientOptions{
				Trust:       identity.Trust{TrustDomain: domain, Roots: cred.Roots},
				Certificate: func() (*tls.Certificate, error) { return cred.TLSCertificate(), nil },
			})
		},
		Hello: func() wire.Hello { return wire.Hello{Version: wire.Version, Hostname: name} },
	})
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- l.Run(running) }()
	defer func() {
		cancel()
		<-ended
	}()
	select {
	case <-l.Connected():
	case <-time.After(time.Minute):
		return errors.New("no session with the hub")
	}
	now := time.Now()
	for ago := 58 * time.Minute; ago >= 10*time.Second; ago -= 10 * time.Second {
		for kind, sample := range map[string]any{wire.SampleHost: machine(now.Add(-ago), ago), wire.SampleKubernetes: pods(now.Add(-ago), ago)} {
			data, err := json.Marshal(sample)
			if err != nil {
				return err
			}
			if err := l.Publish(kind, data); err != nil {
				return err
			}
		}
	}
	// A request is answered after what was published before it.
	_, _ = l.RequestRaw(ctx, "none", []byte("{}"))
	return nil
}

// wave is around 0, between -1 and 1, with noise that is the same every time.
func wave(ago time.Duration, minutes float64) float64 {
	m := ago.Minutes()
	noise := rand.New(rand.NewPCG(uint64(ago), uint64(minutes))).Float64() //nolint:gosec // no secret
	return 0.5*math.Sin(m*2*math.Pi/minutes) + 0.25*math.Sin(m*2*math.Pi/(minutes*0.37)) + 0.5*(noise-0.5)
}

func machine(at time.Time, ago time.Duration) wire.HostSample {
	return wire.HostSample{
		Time: at, CPU: 2.1 + 0.8*wave(ago, 23), Cores: 8, Load1: 2,
		MemoryUsed: uint64(9.2e9 + 0.6e9*wave(ago, 51)), MemoryTotal: 16 << 30, DiskUsed: 61 << 30, DiskTotal: 160 << 30,
		NetworkReceive: 3.1e6 + 1.9e6*wave(ago, 13), NetworkTransmit: 1.4e6 + 0.9e6*wave(ago, 17), UptimeSeconds: 86400,
	}
}

// pods are those of the addon; what they use ends where the cluster really is.
func pods(at time.Time, ago time.Duration) wire.KubernetesSample {
	amount := func(cpu, memory float64) map[string]string {
		return map[string]string{"cpu": fmt.Sprintf("%dm", int(cpu*1000)), "memory": strconv.Itoa(int(memory))}
	}
	return wire.KubernetesSample{
		Time: at, Healthy: true, Nodes: 1, NodesReady: 1, PodsByPhase: map[string]int{"Running": 2}, PodsCapacity: 110,
		Allocatable: amount(4, 8<<30), Capacity: amount(4, 8<<30), Requests: amount(1.5, 3<<30),
		Usage: amount(0.9+0.35*wave(ago, 23), 2.1e9+0.25e9*wave(ago, 37)),
	}
}
