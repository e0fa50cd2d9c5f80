{{/* Name of the objects, short enough that suffixes of the chart still make a DNS label. */}}
{{- define "dms-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Name of objects without a namespace: two installations in one cluster must not meet. */}}
{{- define "dms-operator.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "dms-operator.fullname" .) -}}
{{- end -}}

{{- define "dms-operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "dms-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "dms-operator.identitySecret" -}}
{{- default (printf "%s-identity" (include "dms-operator.fullname" .)) .Values.identity.existingSecret -}}
{{- end -}}

{{- define "dms-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Image of the site server, by digest; empty when none is known. */}}
{{- define "dms-operator.siteImage" -}}
{{- if .Values.sites.image -}}
{{- .Values.sites.image -}}
{{- else if .Values.image.digest -}}
{{- include "dms-operator.image" . -}}
{{- end -}}
{{- end -}}

{{- define "dms-operator.siteUrl" -}}
{{- default (printf "http://%s-sites.%s.svc:8081" (include "dms-operator.fullname" .) .Release.Namespace) .Values.sites.url -}}
{{- end -}}

{{- define "dms-operator.actorAddress" -}}
{{- printf "/dns4/%s-actor.%s.svc/tcp/9000" (include "dms-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "dms-operator.actorUrl" -}}
{{- printf "http://%s-actor.%s.svc:8082" (include "dms-operator.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "dms-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "dms-operator.labels" -}}
{{ include "dms-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
