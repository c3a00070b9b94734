{{/* What the DaemonSets and the gate share. */}}
{{- define "auditor.labels" -}}
app.kubernetes.io/name: containerd-auditor
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auditor.scrubLabels" -}}
app.kubernetes.io/name: containerd-auditor-scrub
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "auditor.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "auditor.env" -}}
- name: CONTAINERD_ADDRESS
  value: {{ printf "%s/%s" .Values.containerd.runDir .Values.containerd.socket | quote }}
- name: AUDITOR_HOST
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "auditor.security" -}}
runAsUser: 0
runAsGroup: 0
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add: [DAC_READ_SEARCH]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "auditor.mounts" -}}
- name: socket
  mountPath: {{ .Values.containerd.runDir }}
  readOnly: true
- name: content
  mountPath: {{ .Values.containerd.root }}/io.containerd.content.v1.content
  readOnly: true
{{- end }}

{{- define "auditor.volumes" -}}
- name: socket
  hostPath:
    path: {{ .Values.containerd.runDir }}
    type: Directory
- name: content
  hostPath:
    path: {{ .Values.containerd.root }}/io.containerd.content.v1.content
    type: Directory
{{- end }}

{{/* What both DaemonSets share. */}}
{{- define "auditor.node" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  kubernetes.io/os: linux
  {{- with .Values.nodeSelector }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
tolerations:
  {{- toYaml .Values.tolerations | nindent 2 }}
terminationGracePeriodSeconds: 60
{{- end }}

{{- define "auditor.serving" -}}
env:
  {{- include "auditor.env" . | nindent 2 }}
ports:
  - name: metrics
    containerPort: {{ .Values.port }}
livenessProbe:
  httpGet:
    path: /healthz
    port: metrics
  initialDelaySeconds: 10
  periodSeconds: 60
  timeoutSeconds: 5
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  {{- include "auditor.security" . | nindent 2 }}
volumeMounts:
  {{- include "auditor.mounts" . | nindent 2 }}
  - name: reports
    mountPath: /var/lib/containerd-auditor
  {{- if .Values.textfileDir }}
  - name: textfiles
    mountPath: /textfiles
  {{- end }}
{{- end }}

{{- define "auditor.servingVolumes" -}}
volumes:
  {{- include "auditor.volumes" . | nindent 2 }}
  - name: reports
    hostPath:
      path: {{ .Values.reportDir }}
      type: DirectoryOrCreate
  {{- if .Values.textfileDir }}
  - name: textfiles
    hostPath:
      path: {{ .Values.textfileDir }}
      type: DirectoryOrCreate
  {{- end }}
{{- end }}
