{{/* The program's flags. What is empty is left to the program's own default. */}}
{{- define "appcode-operator.args" -}}
{{- $args := list -}}
{{- range .Values.watchNamespaces -}}
{{- $args = append $args (printf "--watch-namespace=%s" .) -}}
{{- end -}}
{{- if .Values.rbac.watchSecrets -}}
{{- $args = append $args "--watch-secrets" -}}
{{- end -}}
{{- range .Values.cloud.allowEndpoints -}}
{{- $args = append $args (printf "--allow-endpoint=%s" .) -}}
{{- end -}}
{{- range .Values.cloud.verificationHosts -}}
{{- $args = append $args (printf "--verification-hosts=%s" .) -}}
{{- end -}}
{{- with .Values.defaultIdentity -}}
{{- if .secretName -}}
{{- $args = append $args "--default-credentials-dir=/etc/appcode/credentials" -}}
{{- end -}}
{{- range .allow -}}
{{- $args = append $args (printf "--allow-default-identity=%s" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.extraCA -}}
{{- if or .configMapName .secretName -}}
{{- $args = append $args (printf "--ca-file=/etc/appcode/ca/%s" .key) -}}
{{- end -}}
{{- end -}}
{{- $flags := list
  (list "minimum-interval" "minimumInterval") (list "daily-budget" "dailyBudget") (list "settle-window" "settleWindow")
  (list "check-period" "checkPeriod") (list "request-deadline" "requestDeadline") (list "connect-timeout" "connectTimeout")
  (list "caller-rate" "callerRate") (list "total-rate" "totalRate") (list "concurrency" "concurrency")
  (list "api-deadline" "apiDeadline") (list "watch-request" "watchRequest") (list "shutdown-grace" "shutdownGrace")
  (list "resource-metrics" "resourceMetrics") -}}
{{- range $flags -}}
{{- $value := get $.Values.settings (last .) -}}
{{- if not (or (kindIs "invalid" $value) (eq (toString $value) "")) -}}
{{- $args = append $args (printf "--%s=%v" (first .) $value) -}}
{{- end -}}
{{- end -}}
{{- if .Values.settings.forbidPlaintextStatus -}}
{{- $args = append $args "--forbid-plaintext-status" -}}
{{- end -}}
{{- if .Values.leaderElection.enabled -}}
{{- $args = append $args (printf "--lease-namespace=%s" .Release.Namespace) -}}
{{- $args = append $args (printf "--lease-name=%s" (include "appcode-operator.fullname" .)) -}}
{{- with .Values.leaderElection.leaseDuration -}}
{{- $args = append $args (printf "--lease-duration=%s" .) -}}
{{- end -}}
{{- else -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "replicas: without leaderElection.enabled there must not be a second pod" -}}
{{- end -}}
{{- $args = append $args "--leader-election=false" -}}
{{- end -}}
{{- $args = append $args (printf "--admin-address=%s:%d" .Values.listenAddress (int64 .Values.port)) -}}
{{- $args = append $args (printf "--log-format=%s" .Values.log.format) -}}
{{- $args = append $args "--log-from=/etc/appcode/log/filter" -}}
{{- toYaml (concat $args .Values.extraArgs) -}}
{{- end -}}
