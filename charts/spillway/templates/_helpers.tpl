{{- define "spillway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Release "spillway" gives spillway-operator, release "gpu" gives gpu-spillway-operator. At most 40
     characters: a CronJob's name may have 52, and the longest suffix has 12. What is a whole value
     goes through toYaml, which quotes a name like "on" or "7". */}}
{{- define "spillway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains (include "spillway.name" .) .Release.Name }}
{{- printf "%s-operator" (.Release.Name | trunc 31 | trimSuffix "-") }}
{{- else }}
{{- printf "%s-%s-operator" .Release.Name (include "spillway.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Where the operator lives. */}}
{{- define "spillway.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "spillway.selectorLabels" -}}
app.kubernetes.io/name: {{ include "spillway.name" . | toYaml }}
app.kubernetes.io/instance: {{ toYaml .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "spillway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "spillway.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: spillway
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, labels and annotations of an object: include "spillway.metadata" (list $ "suffix"). A third
     member are annotations of its own, a fourth labels. */}}
{{- define "spillway.metadata" -}}
{{- $top := index . 0 }}
{{- $own := dict }}
{{- if gt (len .) 2 }}
{{- $own = index . 2 | default dict }}
{{- end }}
{{- $annotations := mergeOverwrite dict $top.Values.commonAnnotations $own -}}
name: {{ printf "%s%s" (include "spillway.fullname" $top) (index . 1) | toYaml }}
labels:
  {{- if and (gt (len .) 3) (last .) }}
  {{- mergeOverwrite (include "spillway.labels" $top | fromYaml) (index . 3) | toYaml | nindent 2 }}
  {{- else }}
  {{- include "spillway.labels" $top | nindent 2 }}
  {{- end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "spillway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "spillway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "spillway.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What every pod of the chart shares: how it is pulled, where it may run, how it resolves names. */}}
{{- define "spillway.podSettings" -}}
# A Service named spillway-http would else set SPILLWAY_HTTP_PORT, and to an address.
enableServiceLinks: false
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName | default .Values.global.priorityClassName }}
priorityClassName: {{ toYaml . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ toYaml . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ toYaml . }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsPolicy }}
dnsPolicy: {{ toYaml . }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with merge (dict) .Values.nodeSelector .Values.global.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat .Values.global.tolerations .Values.tolerations | uniq }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The one subject of every binding. */}}
{{- define "spillway.subjects" -}}
- kind: ServiceAccount
  name: {{ include "spillway.serviceAccountName" . | toYaml }}
  namespace: {{ include "spillway.namespace" . | toYaml }}
{{- end }}

{{/* Whether the operator may watch nodes: settings.watch_nodes, which is on unless it says no. */}}
{{- define "spillway.watchesNodes" -}}
{{- if ne (toString (get .Values.settings "watch_nodes")) "false" }}true{{ end }}
{{- end }}

{{/* The ConfigMap with the price catalog; empty: there is none. */}}
{{- define "spillway.priceCatalog" -}}
{{- if .Values.priceCatalog.existingConfigMap }}
{{- .Values.priceCatalog.existingConfigMap }}
{{- else if .Values.priceCatalog.prices }}
{{- include "spillway.fullname" . }}-prices
{{- end }}
{{- end }}

{{/* A pod that runs one command of the image and ends: what Jobs share.
     include "spillway.jobPodSpec" (list $ account name args) */}}
{{- define "spillway.jobPodSpec" -}}
{{- $top := index . 0 -}}
serviceAccountName: {{ index . 1 | toYaml }}
automountServiceAccountToken: true
restartPolicy: Never
{{ include "spillway.podSettings" $top }}
{{- with $top.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ index . 2 }}
    image: {{ include "spillway.image" $top }}
    imagePullPolicy: {{ $top.Values.image.pullPolicy }}
    args: {{ toJson (index . 3) }}
    env:
      - name: SPILLWAY_NAMESPACE
        valueFrom:
          fieldRef:
            fieldPath: metadata.namespace
      - name: SPILLWAY_LEASE_NAME
        value: {{ include "spillway.fullname" $top | toYaml }}
      {{- with $top.Values.watchNamespaces }}
      - name: SPILLWAY_WATCH_NAMESPACES
        value: {{ toJson . | quote }}
      {{- end }}
      {{- with $top.Values.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $top.Values.extraEnvFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    resources:
      {{- toYaml $top.Values.resources | nindent 6 }}
    securityContext:
      {{- toYaml $top.Values.securityContext | nindent 6 }}
    volumeMounts:
      - name: tmp
        mountPath: /tmp
      {{- with $top.Values.extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: tmp
    emptyDir:
      sizeLimit: 16Mi
  {{- with $top.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
