{{/* What the DaemonSet and the gate share. */}}
{{- define "auditor.labels" -}}
app.kubernetes.io/name: containerd-auditor
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
