{{/* What pods of both kinds have in common. */}}

{{/* Environment: { "root", "role" }. */}}
{{- define "trunkline.env" -}}
{{- $root := .root -}}
{{- $turn := include "trunkline.turn" $root | fromJson -}}
- name: TRUNKLINE_NODE__NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- $login := $root.Values.natsClient.login }}
{{- $variables := dict "none" list "creds" list "user" (list "user" "password") "token" (list "token") "nkey" (list "seed") }}
{{- range get $variables $login.kind }}
- name: {{ printf "TRUNKLINE_NATS__%s" (ternary "NKEY_SEED" (upper .) (eq . "seed")) }}
  valueFrom:
    secretKeyRef:
      name: {{ $login.secret }}
      key: {{ get $login.keys . }}
{{- end }}
{{- range $name, $ref := $root.Values.secrets.env }}
{{- if or (eq $.role "gateway") (has $name $turn.env) }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $ref.secret }}
      key: {{ $ref.key }}
{{- end }}
{{- end }}
{{- with (get $root.Values .role).extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Names of `secrets.files` that pods of this role mount, as JSON: { "names": […] }. */}}
{{- define "trunkline.fileSecrets" -}}
{{- $turn := include "trunkline.turn" .root | fromJson -}}
{{- $names := list -}}
{{- range $name, $ref := .root.Values.secrets.files -}}
{{- $wanted := eq $.role "gateway" -}}
{{- range $turn.files -}}
{{- if hasPrefix (printf "/etc/trunkline/secrets/%s/" $name) . }}{{ $wanted = true }}{{ end -}}
{{- end -}}
{{- if $wanted }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- dict "names" $names | toJson -}}
{{- end -}}

{{/* Secrets that are mounted as directories: { "volume", "secret", "path" } each, as JSON. */}}
{{- define "trunkline.secretMounts" -}}
{{- $client := .root.Values.natsClient -}}
{{- $mounts := list -}}
{{- if eq $client.login.kind "creds" -}}
{{- $mounts = append $mounts (dict "volume" "nats-login" "secret" $client.login.secret "path" "/etc/trunkline/nats/login") -}}
{{- end -}}
{{- with $client.tls.ca.secret -}}
{{- $mounts = append $mounts (dict "volume" "nats-ca" "secret" . "path" "/etc/trunkline/nats/ca") -}}
{{- end -}}
{{- with $client.tls.client.secret -}}
{{- $mounts = append $mounts (dict "volume" "nats-client" "secret" . "path" "/etc/trunkline/nats/client") -}}
{{- end -}}
{{- range (include "trunkline.fileSecrets" . | fromJson).names -}}
{{- $ref := get $.root.Values.secrets.files . -}}
{{- $mounts = append $mounts (dict "volume" (printf "secret-%s" .) "secret" $ref.secret "path" (printf "/etc/trunkline/secrets/%s" .)) -}}
{{- end -}}
{{- dict "mounts" $mounts | toJson -}}
{{- end -}}

{{/* { "root", "role" } */}}
{{- define "trunkline.volumeMounts" -}}
- name: config
  mountPath: /etc/trunkline/config
  readOnly: true
{{- range (include "trunkline.secretMounts" . | fromJson).mounts }}
- name: {{ .volume }}
  mountPath: {{ .path }}
  readOnly: true
{{- end }}
{{- with (get .root.Values .role).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* { "root", "role" } */}}
{{- define "trunkline.volumes" -}}
- name: config
  configMap:
    name: {{ include "trunkline.fullname" .root }}
{{- range (include "trunkline.secretMounts" . | fromJson).mounts }}
- name: {{ .volume }}
  secret:
    secretName: {{ .secret }}
    # Readable for the process's group alone.
    defaultMode: 0440
{{- end }}
{{- with (get .root.Values .role).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Probes at the operators' port. A NATS outage makes pods unready, and kills none. */}}
{{- define "trunkline.probes" -}}
startupProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 90
readinessProbe:
  httpGet: { path: /readyz, port: admin }
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: { path: /healthz, port: admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Where pods of this role go: { "root", "role" }. */}}
{{- define "trunkline.scheduling" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $values := get $root.Values .role -}}
{{- $keys := dict "hostname" "kubernetes.io/hostname" "zone" "topology.kubernetes.io/zone" -}}
{{- $spread := list -}}
{{- range $name := list "hostname" "zone" -}}
{{- with get $values.topologySpread $name -}}
{{- $labels := include "trunkline.selector" $root | fromYaml -}}
{{- $_ := set $labels "app.kubernetes.io/component" $role -}}
{{- $spread = append $spread (dict
  "maxSkew" 1
  "topologyKey" (get $keys $name)
  "whenUnsatisfiable" .
  "labelSelector" (dict "matchLabels" $labels)
  "matchLabelKeys" (list "pod-template-hash")) -}}
{{- end -}}
{{- end -}}
{{- $scheduling := dict -}}
{{- with $spread }}{{ $_ := set $scheduling "topologySpreadConstraints" . }}{{ end -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" -}}
{{- with get $values $key }}{{ $_ := set $scheduling $key . }}{{ end -}}
{{- end -}}
{{- with $scheduling }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* The pod template's metadata and all of its spec but the container: { "root", "role" }. */}}
{{- define "trunkline.podMetadata" -}}
annotations:
  # A changed configuration rolls the pods.
  checksum/config: {{ include "trunkline.config" .root | sha256sum }}
{{- with (get .root.Values .role).podAnnotations }}
{{ toYaml . | indent 2 }}
{{- end }}
labels:
{{ include "trunkline.labels" .root | indent 2 }}
  app.kubernetes.io/component: {{ .role }}
{{- with (get .root.Values .role).podLabels }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end -}}

{{- define "trunkline.podSpec" -}}
serviceAccountName: {{ include "trunkline.serviceAccount" .root }}
automountServiceAccountToken: false
# Else each Service of the namespace becomes environment variables, some of which look like settings.
enableServiceLinks: false
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with .root.Values.podSecurityContext }}
securityContext:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with include "trunkline.scheduling" . }}
{{ . }}
{{- end }}
volumes:
{{ include "trunkline.volumes" . | indent 2 }}
{{- end -}}

{{/* The container's part that both roles share. */}}
{{- define "trunkline.container" -}}
image: {{ include "trunkline.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .role }}, --config, /etc/trunkline/config/trunkline.toml]
env:
{{ include "trunkline.env" . | indent 2 }}
{{- with .root.Values.securityContext }}
securityContext:
{{ toYaml . | indent 2 }}
{{- end }}
{{- with (get .root.Values .role).resources }}
resources:
{{ toYaml . | indent 2 }}
{{- end }}
volumeMounts:
{{ include "trunkline.volumeMounts" . | indent 2 }}
{{ include "trunkline.probes" . }}
{{- end -}}
