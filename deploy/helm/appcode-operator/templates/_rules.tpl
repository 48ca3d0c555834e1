{{/* Exactly the verbs that are used. Secrets are not listed or watched: who may do that reads them all. The exception is a role of
its own, which is off by default. */}}
{{- define "appcode-operator.rules" -}}
# list and watch: to know when to look at a resource. get: what decides is read live. patch: for the finalizer
# appcode.dev/retirement only, under the resourceVersion, from before a second code is added until the first one is
# deleted (strategy Overlap). Rights cannot be given for one field; the spec is never written.
- apiGroups: [appcode.dev]
  resources: [appcoderotations]
  verbs: [get, list, watch, patch]
# update: status is replaced as a whole, under its resourceVersion.
- apiGroups: [appcode.dev]
  resources: [appcoderotations/status]
  verbs: [update]
{{- if .Values.rbac.createSecrets }}
# get: credentials, seeds and targets, each by the name that a resource in the same namespace gives. create and patch:
# the target Secret, under its resourceVersion.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, create, patch]
{{- else }}
# get: credentials, seeds and targets, each by the name that a resource in the same namespace gives. patch: the target
# Secret, under its resourceVersion; somebody else has made it.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, patch]
{{- end }}
# create: one event for each thing that a person would want to know.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{/* Optional, since whoever may patch a workload may change all of it. */}}
{{- define "appcode-operator.restartRules" -}}
# get: which rotation a workload was restarted for, and how far it has rolled out, by the name that a resource in the
# same namespace gives. patch: one annotation on its pod template, under its resourceVersion. Never listed or watched.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, patch]
# The same.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, patch]
# The same.
- apiGroups: [apps]
  resources: [daemonsets]
  verbs: [get, patch]
{{- end -}}

{{/* Optional, since whoever may list or watch Secrets may read them all. */}}
{{- define "appcode-operator.watchSecretsRules" -}}
# list and watch: the operator's own Secrets, by their label and without their values, to repair one within seconds. Rights
# can be limited neither to a label nor to metadata, so this one is to read every Secret in its scope.
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, watch]
{{- end -}}

{{/* In the release's namespace only. */}}
{{- define "appcode-operator.leaseRules" -}}
# create: the Lease by which one pod leads. A name cannot be asked for before there is one.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
# get and watch: who leads. update: to renew the Lease, to give it up and to take it, under its resourceVersion.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ include "appcode-operator.fullname" . }}]
  verbs: [get, update, watch]
{{- end -}}

{{/* A role and its binding. Takes the root, the name, the name of the rules, and the namespace or none for the cluster. */}}
{{- define "appcode-operator.grant" -}}
{{- $prefix := ternary "" "Cluster" (not (empty .namespace)) -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}Role
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "appcode-operator.labels" .root | nindent 4 }}
rules:
  {{- include .rules .root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $prefix }}RoleBinding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "appcode-operator.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $prefix }}Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "appcode-operator.serviceAccountName" .root }}
    namespace: {{ .root.Release.Namespace }}
{{- end -}}
