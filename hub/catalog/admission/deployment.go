// Copyright The Drover Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/drover-io/drover/hub/catalog/config"
	"github.com/drover-io/drover/shared/apis/addon"
)

// DeploymentConfig refuses settings with which no cluster would take the
// manifests of an addon.
func (*Rules) DeploymentConfig(_ context.Context, w *Write) error {
	var d addon.AddOnDeploymentConfig
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(w.Object, &d); err != nil {
		return err
	}
	path := field.NewPath("spec")
	errs := checkNodePlacement(d.Spec.NodePlacement, path.Child("nodePlacement"))
	for i, m := range d.Spec.Registries {
		for name, value := range map[string]string{"source": m.Source, "mirror": m.Mirror} {
			if strings.Contains(value, "://") {
				errs = append(errs, field.Invalid(path.Child("registries").Index(i).Child(name), value, "names of images begin without a scheme"))
			}
		}
	}
	for i := range d.Spec.ResourceRequirements {
		at := path.Child("resourceRequirements").Index(i).Child("resources", "requests")
		resources := &d.Spec.ResourceRequirements[i].Resources
		for _, name := range slices.Sorted(maps.Keys(resources.Requests)) {
			request := resources.Requests[name]
			if limit, ok := resources.Limits[name]; ok && request.Cmp(limit) > 0 {
				errs = append(errs, field.Invalid(at.Key(string(name)), request.String(), "must not be more than the limit of "+limit.String()))
			}
		}
	}
	for _, v := range d.Spec.CustomizedVariables {
		if v.Name == config.VariableCluster || v.Name == config.VariableNamespace {
			w.Warn(fmt.Sprintf("the variable %s says what is, and is not taken from here", v.Name))
		}
	}
	p := &d.Spec.ProxyConfig
	for name, value := range map[string]string{"httpProxy": p.HTTPProxy, "httpsProxy": p.HTTPSProxy} {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "") {
			w.Warn(fmt.Sprintf("spec.proxyConfig.%s is not a URL such as http://proxy.example:3128", name))
		}
	}
	if len(p.CABundle) > 0 && !x509.NewCertPool().AppendCertsFromPEM(p.CABundle) {
		w.Warn("spec.proxyConfig.caBundle has no certificate in PEM")
	}
	if len(errs) > 0 {
		return errs.ToAggregate()
	}
	return nil
}

func checkNodePlacement(n *addon.NodePlacement, path *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	errs := metavalidation.ValidateLabels(n.NodeSelector, path.Child("nodeSelector"))
	for i, t := range n.Tolerations {
		at := path.Child("tolerations").Index(i)
		if operators := []corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists}; !slices.Contains(operators, t.Operator) {
			errs = append(errs, field.NotSupported(at.Child("operator"), t.Operator, operators[1:]))
		}
		effects := []corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute}
		if !slices.Contains(effects, t.Effect) {
			errs = append(errs, field.NotSupported(at.Child("effect"), t.Effect, effects[1:]))
		}
		switch {
		case t.Key != "":
			for _, problem := range validation.IsQualifiedName(t.Key) {
				errs = append(errs, field.Invalid(at.Child("key"), t.Key, problem))
			}
		case t.Operator != corev1.TolerationOpExists:
			errs = append(errs, field.Invalid(at.Child("operator"), t.Operator, "must be Exists when key is empty"))
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, "must be empty when operator is Exists"))
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(at.Child("effect"), t.Effect, "must be NoExecute when tolerationSeconds is set"))
		}
	}
	return errs
}

// Template warns of what makes an AddOnTemplate unusable here.
func (*Rules) Template(_ context.Context, w *Write) error {
	list, _, err := unstructured.NestedSlice(w.Object, "spec", "registration")
	if err == nil && len(list) > 0 {
		w.Warn("spec.registration: this hub issues no credentials to the agents of addons, so the template cannot be installed with it")
	}
	return nil
}
