{{- /* The name that everything of the release begins with. */ -}}
{{- define "collector.release" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name }}{{ end }}
{{- end }}

{{- define "collector.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "collector.labels" -}}
{{ include "collector.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "collector.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* config.yaml of a collector, with what only the chart decides. */ -}}
{{- define "collector.config" -}}
{{- $set := dict "persistence" (dict "type" "filesystem" "config" (dict "directory_name" "state/collector")) "monitoring" (dict "listen" "0.0.0.0:18514") }}
{{- mustMergeOverwrite (deepCopy .config) (dict "globals" $set) | toYaml }}
{{- end }}
