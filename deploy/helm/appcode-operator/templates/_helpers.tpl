{{/* Name of every object. A Service has it too, so it is a DNS label that begins with a letter; names of releases may have dots. */}}
{{- define "appcode-operator.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name .Chart.Name -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- $name = $name | replace "." "-" | trunc 63 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s cannot be the name of a Service, which begins with a letter: set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* Name of the ConfigMap with the log's filter. */}}
{{- define "appcode-operator.logName" -}}
{{- include "appcode-operator.fullname" . | trunc 59 | trimSuffix "-" }}-log
{{- end -}}

{{/* What a Deployment finds its pods by: can never change, so nothing of a version stands in it. */}}
{{- define "appcode-operator.selector" -}}
app.kubernetes.io/name: {{ include "appcode-operator.fullname" . }}
{{- end -}}

{{/* Never the selector's: the test's pod must not be behind the Service. */}}
{{- define "appcode-operator.testLabels" -}}
app.kubernetes.io/name: {{ include "appcode-operator.fullname" . | trunc 58 | trimSuffix "-" }}-test
{{- end -}}

{{- define "appcode-operator.labels" -}}
{{- $own := include "appcode-operator.selector" . | fromYaml -}}
{{- $own = merge $own (dict
  "app.kubernetes.io/instance" .Release.Name
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/version" (toString .Chart.AppVersion)
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")) -}}
{{- toYaml (merge $own .Values.commonLabels) -}}
{{- end -}}

{{- define "appcode-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "appcode-operator.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.create is false: name the account in serviceAccount.name" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "appcode-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Who may read mounted Secrets: root and the group of the pod (0440), or everybody in it where it has no group (0444). In
decimal, as not all readers of YAML take a leading zero for octal. */}}
{{- define "appcode-operator.fileMode" -}}
{{- ternary 292 288 (kindIs "invalid" .Values.podSecurityContext.fsGroup) -}}
{{- end -}}

{{/* Seconds in a duration such as 90s, 10m or 1h30m. */}}
{{- define "appcode-operator.seconds" -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[hms]" . -1 -}}
{{- $number := trimSuffix "h" (trimSuffix "m" (trimSuffix "s" .)) | int64 -}}
{{- $unit := ternary 3600 (ternary 60 1 (hasSuffix "m" .)) (hasSuffix "h" .) -}}
{{- $sum = add $sum (mul $number $unit) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* A code that the cloud has just made is saved before the process ends. */}}
{{- define "appcode-operator.terminationGrace" -}}
{{- $call := include "appcode-operator.seconds" .Values.settings.requestDeadline | int64 -}}
{{- $save := include "appcode-operator.seconds" .Values.settings.shutdownGrace | int64 -}}
{{- $least := add $call $save -}}
{{- $given := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "invalid" $given -}}
{{- max 60 (add $least 5) -}}
{{- else if le (int64 $given) $least -}}
{{- fail (printf "terminationGracePeriodSeconds is %d, but a call may take %s and saving its code %s: set it above %d, or a code may be lost when the pod ends" (int64 $given) .Values.settings.requestDeadline .Values.settings.shutdownGrace $least) -}}
{{- else -}}
{{- int64 $given -}}
{{- end -}}
{{- end -}}

{{/* Values that contradict each other, before anything is changed. */}}
{{- define "appcode-operator.check" -}}
{{- if and (eq .Values.rbac.scope "Namespaces") (not .Values.watchNamespaces) -}}
{{- fail "rbac.scope is Namespaces, but watchNamespaces names none: the operator would have no right anywhere" -}}
{{- end -}}
{{- if and .Values.extraCA.configMapName .Values.extraCA.secretName -}}
{{- fail "set at most one of extraCA.configMapName and extraCA.secretName" -}}
{{- end -}}
{{- if and .Values.proxy.url .Values.proxy.secretName -}}
{{- fail "set at most one of proxy.url and proxy.secretName" -}}
{{- end -}}
{{- if and .Values.defaultIdentity.allow (not .Values.defaultIdentity.secretName) -}}
{{- fail "defaultIdentity.allow lets namespaces use the operator's own credentials, but defaultIdentity.secretName names none" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.apiServer.cidrs) -}}
{{- fail "networkPolicy.enabled cuts the operator off from the API server unless networkPolicy.apiServer.cidrs names its addresses, and networkPolicy.apiServer.ports its ports: take both from kubectl get endpoints kubernetes -n default" -}}
{{- end -}}
{{- end -}}
