// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"time"
)

// better says which way a figure is better.
type better string

const (
	more better = "more"
	less better = "less"
)

// row is one figure of both servers.
type row struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Better better               `json:"better"`
	Rounds map[string][]float64 `json:"rounds"` // by server
	Hub    float64              `json:"hub"`
	Kube   float64              `json:"kube"`
	// Ratio is how many times better the hub is; below 1 it is worse.
	Ratio float64 `json:"ratio"`
}

// note adds the figure of one round.
func (b *bench) note(s server, name, unit string, way better, value float64) {
	i := slices.IndexFunc(b.rows, func(r *row) bool { return r.Name == name })
	if i < 0 {
		i = len(b.rows)
		b.rows = append(b.rows, &row{Name: name, Unit: unit, Better: way, Rounds: map[string][]float64{}})
	}
	r := b.rows[i]
	r.Rounds[s.name()] = append(r.Rounds[s.name()], value)
	fmt.Fprintf(os.Stderr, "%s %-6s %-52s %s %s\n", time.Now().Format(time.TimeOnly), s.name(), name, number(value), unit)
}

func (r *row) sum() {
	r.Hub, r.Kube = median(r.Rounds["hub"]), median(r.Rounds["kube"])
	if r.Hub == 0 || r.Kube == 0 {
		return
	}
	if r.Ratio = r.Hub / r.Kube; r.Better == less {
		r.Ratio = r.Kube / r.Hub
	}
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

func number(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

func (b *bench) print(w io.Writer) {
	fmt.Fprintf(w, "%-54s %10s %10s %-5s %s\n", "", "hub", "kube+etcd", "", "hub is better by")
	for _, r := range b.rows {
		r.sum()
		fmt.Fprintf(w, "%-54s %10s %10s %-5s %.2fx\n", r.Name, number(r.Hub), number(r.Kube), r.Unit, r.Ratio)
	}
}

// save writes the figures for programs.
func (b *bench) save(path string) error {
	for _, r := range b.rows {
		r.sum()
	}
	data, err := json.MarshalIndent(map[string]any{
		"time": time.Now().UTC().Format(time.RFC3339), "cpus": runtime.NumCPU(), "go": runtime.Version(), "figures": b.rows,
	}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
