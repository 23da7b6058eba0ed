{{- define "quarterdeck.name" -}}
{{- if contains "quarterdeck" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-quarterdeck" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods of one part: (list $ "research"). */}}
{{- define "quarterdeck.select" -}}
app.kubernetes.io/name: quarterdeck
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "quarterdeck.labels" -}}
{{ include "quarterdeck.select" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end -}}

{{- define "quarterdeck.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Every worker that there may be, by its stable name: the coordinator leaves alone those that are not there. */}}
{{- define "quarterdeck.addresses" -}}
{{- $root := index . 0 -}}{{- $part := index . 1 -}}{{- $worker := index . 2 -}}
{{- $name := printf "%s-%s" (include "quarterdeck.name" $root) $part -}}
{{- $most := ternary (max $worker.replicas $worker.maxReplicas) $worker.replicas $root.Values.autoscaling.enabled -}}
{{- range $n := until (int $most) }}{{ if $n }} {{ end }}http://{{ $name }}-{{ $n }}.{{ $name }}:7400{{ end -}}
{{- end -}}

{{/* What all pods have in common, given (dict "root" $ "part" "research" "resources" … "arguments" (list …) "env" (list …)). */}}
{{- define "quarterdeck.pod" -}}
{{- $root := .root -}}
serviceAccountName: {{ include "quarterdeck.name" $root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ $root.Values.terminationGraceSeconds }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "quarterdeck.select" (list $root .part) | nindent 8 }}
containers:
  - name: {{ .part }}
    image: {{ include "quarterdeck.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{ toJson .arguments }}
    ports:
      - {name: http, containerPort: 7400}
    env:
      - {name: QUARTERDECK_CONFIG, value: /etc/quarterdeck/quarterdeck.toml}
      - {name: QUARTERDECK_HOME, value: /var/lib/quarterdeck}
      - {name: QUARTERDECK_HTTP_HOST, value: 0.0.0.0}
      - {name: QUARTERDECK_HTTP_ALLOWED_HOSTS, value: {{ .hosts | quote }}}
      {{- range $name, $value := $root.Values.settings }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
      {{- range .env }}
      - {name: {{ .name }}, value: {{ .value | quote }}}
      {{- end }}
    # The door answers to known Host headers only; the kubelet would send the pod's address.
    startupProbe:
      httpGet: {path: /healthz, port: http, httpHeaders: [{name: Host, value: localhost}]}
      periodSeconds: 2
      failureThreshold: 60
    readinessProbe:
      httpGet: {path: /healthz, port: http, httpHeaders: [{name: Host, value: localhost}]}
      periodSeconds: 5
      timeoutSeconds: 3
    livenessProbe:
      httpGet: {path: /healthz, port: http, httpHeaders: [{name: Host, value: localhost}]}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    resources: {{ toYaml .resources | nindent 6 }}
    volumeMounts:
      - {name: settings, mountPath: /etc/quarterdeck, readOnly: true}
      - {name: home, mountPath: /var/lib/quarterdeck}
      - {name: tmp, mountPath: /tmp}
volumes:
  - name: settings
    secret:
      secretName: {{ $root.Values.existingSecret }}
      items: [{key: quarterdeck.toml, path: quarterdeck.toml}]
      defaultMode: 0440
  - name: home
    emptyDir: {sizeLimit: 1Gi}
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
{{- end -}}
