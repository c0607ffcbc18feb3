{{- define "noah.labels" -}}
app.kubernetes.io/name: noah
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "noah.selector" -}}
app.kubernetes.io/name: noah
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "noah.wide" -}}
{{- if eq .Release.Name .Release.Namespace }}{{ .Release.Name }}{{ else }}{{ .Release.Namespace }}-{{ .Release.Name }}{{ end }}
{{- end }}

{{- define "noah.check" -}}
{{- if and (not .Values.allNamespaces) (not .Values.namespaces) -}}
{{- fail "Name the namespaces to debug in, namespaces=[...], or set allNamespaces=true." -}}
{{- end -}}
{{- if not (or .Values.tls.secretName .Values.trustedProxies .Values.plainHttpFrom) -}}
{{- fail "Logins do not go over plain HTTP: set tls.secretName, or trustedProxies if an Ingress does TLS, or plainHttpFrom." -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.serviceMonitor.tokenSecret.name) -}}
{{- fail "serviceMonitor.tokenSecret.name is missing: /metrics needs a token, which `noah token create` makes." -}}
{{- end -}}
{{- if and .Values.database.url (not .Values.database.passwordSecret.name) -}}
{{- fail "database.passwordSecret.name is missing: the Secret with the database's password." -}}
{{- end -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- if not .Values.database.url -}}
{{- fail "Several gateways agree by PostgreSQL: set database.url, or replicas=1." -}}
{{- end -}}
{{- if and .Values.persistence.enabled (ne .Values.persistence.accessMode "ReadWriteMany") -}}
{{- fail "Several gateways cannot share a volume of one node: set persistence.enabled=false, or persistence.accessMode=ReadWriteMany." -}}
{{- end -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.certificates "gateway") (not .Values.persistence.enabled) -}}
{{- fail "Several gateways need one authority for the webhook: set webhook.certificates to chart or cert-manager." -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "noah.configuration" -}}
[gateway]
listen = "0.0.0.0:7070"
advertised_host = {{ .Values.advertisedHost | quote }}
debug_ports = "{{ .Values.debug.firstPort }}-{{ sub (add .Values.debug.firstPort .Values.debug.ports) 1 }}"
{{- if .Values.debug.enabled }}
# Who reaches these ports from a session's `allow` debugs: keep them inside of your network.
debug_ports_beyond_loopback = true
{{- else }}
plain_ports = false
{{- end }}
database = {{ .Values.database.url | default "sqlite:////data/noah.db" | quote }}
{{- if .Values.database.url }}
peer_listen = "0.0.0.0:7071"
drain_for = "{{ .Values.drainSeconds }}s"
{{- end }}
{{- with .Values.publicUrl }}
public_url = {{ . | quote }}
{{- end }}
{{- if .Values.tls.secretName }}
tls_certificate = "/etc/noah-tls/tls.crt"
tls_key = "/etc/noah-tls/tls.key"
{{- end }}
{{- with .Values.trustedProxies }}
trusted_proxies = {{ toJson . }}
{{- end }}
{{- with .Values.plainHttpFrom }}
plain_http_from = {{ toJson . }}
{{- end }}
[access]
tokens = {{ ternary "/etc/noah-tokens/tokens.json" "/data/tokens.json" (ne .Values.tokens.secretName "") | quote }}
{{- if .Values.webhook.enabled }}
[webhook]
listen = "0.0.0.0:7443"
names = ["{{ .Release.Name }}.{{ .Release.Namespace }}.svc"]
folder = "/data/webhook"
{{- end }}
[[clusters]]
name = "here"
in_cluster = true
{{- if not .Values.allNamespaces }}
namespaces = {{ toJson .Values.namespaces }}
{{- end }}
reach = {{ .Values.reach | quote }}
{{- with .Values.config }}
{{ . }}
{{- end }}
{{- end }}

{{- define "noah.container" -}}
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "noah.mounts" -}}
env:
- {name: NOAH_CONFIG, value: /etc/noah/noah.toml}
{{- if .Values.database.url }}
- {name: PGPASSWORD, valueFrom: {secretKeyRef: {{ toJson .Values.database.passwordSecret }}}}
{{- end }}
volumeMounts:
- {name: config, mountPath: /etc/noah}
- {name: data, mountPath: /data}
# A client certificate of a kubeconfig is in a file there for a moment: OpenSSL reads them from files only.
- {name: tmp, mountPath: /tmp}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/noah-tls}
{{- end }}
{{- if .Values.tokens.secretName }}
- {name: tokens, mountPath: /etc/noah-tokens}
{{- end }}
{{- range .Values.secrets }}
- {name: {{ .name }}, mountPath: {{ .mountPath }}}
{{- end }}
{{- end }}

{{- define "noah.copy" -}}
import os; os.umask(0o077); os.makedirs("/data/webhook", exist_ok=True); os.chmod("/data/webhook", 0o700); [open("/data/webhook/authority." + to, "wb").write(open("/authority/tls." + to, "rb").read()) for to in ("crt", "key")]
{{- end }}
