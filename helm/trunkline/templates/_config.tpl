{{/* The configuration file, and what of the cluster follows from it. */}}

{{/* `config` with what the chart sets. */}}
{{- define "trunkline.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $gateway := .Values.gateway -}}
{{- $bind := $gateway.bindAddress -}}
{{- $set := dict
  "production" .Values.production
  "node" (dict "drain_s" $gateway.drainSeconds)
  "http" (dict "listen" (list (printf "%s:%d" $bind (int $gateway.port))) "admin" (printf "%s:%d" $bind (int $gateway.adminPort)))
  "coordinator" (dict "admin" (printf "%s:%d" $bind (int .Values.coordinator.adminPort)))
  "nats" (dict "servers" (include "trunkline.servers" . | fromJson).servers "replicas" .Values.natsClient.replicas)
-}}
{{- if include "trunkline.hasApi" . -}}
{{- $_ := set $set "api" (dict "listen" (list (printf "%s:%d" $bind (int $gateway.apiPort)))) -}}
{{- end -}}
{{- if eq .Values.natsClient.login.kind "creds" -}}
{{- $_ := set $set.nats "creds_file" (printf "/etc/trunkline/nats/login/%s" .Values.natsClient.login.keys.creds) -}}
{{- end -}}
{{- with include "trunkline.natsTls" . | fromJson -}}
{{- $_ := set $set.nats "tls" . -}}
{{- end -}}
{{- $config = mergeOverwrite $config $set -}}
{{- include "trunkline.plain" $config -}}
{{- toToml $config -}}
{{- end -}}

{{- define "trunkline.natsTls" -}}
{{- $tls := .Values.natsClient.tls -}}
{{- $set := dict -}}
{{- if $tls.required }}{{ $_ := set $set "required" true }}{{ end -}}
{{- if $tls.first }}{{ $_ := set $set "first" true }}{{ end -}}
{{- if $tls.ca.secret }}{{ $_ := set $set "ca_file" (printf "/etc/trunkline/nats/ca/%s" $tls.ca.key) }}{{ end -}}
{{- if $tls.client.secret -}}
{{- $_ := set $set "cert_file" (printf "/etc/trunkline/nats/client/%s" $tls.client.certKey) -}}
{{- $_ := set $set "key_file" (printf "/etc/trunkline/nats/client/%s" $tls.client.keyKey) -}}
{{- end -}}
{{- toJson $set -}}
{{- end -}}

{{/* Numbers of values are floats, TOML's are not: whole ones become integers, in place. Keys without a value go. */}}
{{- define "trunkline.plain" -}}
{{- $map := . -}}
{{- range $key, $value := $map -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $map $key -}}
{{- else -}}
{{- $holder := dict "value" $value -}}
{{- include "trunkline.plainValue" $holder -}}
{{- $_ := set $map $key $holder.value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.plainValue" -}}
{{- $holder := . -}}
{{- $value := .value -}}
{{- if kindIs "map" $value -}}
{{- include "trunkline.plain" $value -}}
{{- else if kindIs "slice" $value -}}
{{- $list := list -}}
{{- range $value -}}
{{- $item := dict "value" . -}}
{{- include "trunkline.plainValue" $item -}}
{{- $list = append $list $item.value -}}
{{- end -}}
{{- $_ := set $holder "value" $list -}}
{{- else if typeIs "json.Number" $value -}}
{{- $text := toString $value -}}
{{- $_ := set $holder "value" (ternary (int64 $text) (float64 $text) (regexMatch "^-?[0-9]+$" $text)) -}}
{{- else if kindIs "float64" $value -}}
{{- if eq $value (floor $value) -}}
{{- $_ := set $holder "value" (int64 $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Not empty: the server API is opened. */}}
{{- define "trunkline.hasApi" -}}
{{- if dig "api" "keys" list .Values.config }}yes{{ end -}}
{{- end -}}

{{- define "trunkline.apps" -}}
{{- dict "apps" (default list .Values.config.app) | toJson -}}
{{- end -}}

{{/* The port of an address as of `listen`; empty: there is none. */}}
{{- define "trunkline.portOf" -}}
{{- regexFind "[0-9]+$" (regexFind ":[1-9][0-9]*$" .) -}}
{{- end -}}

{{/* The ports of clients, as JSON: { "ports": [{ "name", "container", "service" }] }, the common one first. */}}
{{- define "trunkline.ports" -}}
{{- $ports := list -}}
{{- $own := list -}}
{{- range (include "trunkline.apps" . | fromJson).apps -}}
{{- if not .listen -}}
{{- if not $ports -}}
{{- $ports = append $ports (dict "name" "http" "container" $.Values.gateway.port "service" $.Values.service.port) -}}
{{- end -}}
{{- end -}}
{{- range .listen -}}
{{- $own = append $own (include "trunkline.portOf" . | int) -}}
{{- end -}}
{{- end -}}
{{- range $own | uniq -}}
{{- $ports = append $ports (dict "name" (printf "http-%d" .) "container" . "service" .) -}}
{{- end -}}
{{- dict "ports" $ports | toJson -}}
{{- end -}}

{{/* Where clients come in, as JSON: { "routes": [{ "host", "path", "port" }] }; an empty host is any. */}}
{{- define "trunkline.routes" -}}
{{- $apps := (include "trunkline.apps" . | fromJson).apps -}}
{{- $routes := list -}}
{{- if .Values.routes -}}
{{- range .Values.routes -}}
{{- $route := . -}}
{{- $port := 0 -}}
{{- range $apps -}}
{{- if eq .name $route.app }}{{ $port = include "trunkline.servicePort" (dict "root" $ "app" .) | int }}{{ end -}}
{{- end -}}
{{- range .paths -}}
{{- $routes = append $routes (dict "host" (default "" $route.host) "path" . "port" $port) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- range $app := $apps -}}
{{- $port := include "trunkline.servicePort" (dict "root" $ "app" $app) | int -}}
{{- $paths := list (default "/socket.io/" $app.path) -}}
{{- with $app.plain_path }}{{ $paths = append $paths . }}{{ end -}}
{{- if hasKey $app "issue" }}{{ $paths = append $paths "/api/rt/issue-socket-token" }}{{ end -}}
{{- range $host := default (list "") $app.hosts -}}
{{- range $paths -}}
{{- $routes = append $routes (dict "host" $host "path" (trimSuffix "/" .) "port" $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- /* Applications that their namespaces tell apart share a route. */ -}}
{{- dict "routes" ($routes | uniq) | toJson -}}
{{- end -}}

{{- define "trunkline.servicePort" -}}
{{- if .app.listen -}}
{{- include "trunkline.portOf" (first .app.listen) -}}
{{- else -}}
{{- .root.Values.service.port | int -}}
{{- end -}}
{{- end -}}

{{/* The variables and files that TURN servers' secrets are in, as JSON: { "env": […], "files": […] }. Coordinators need these alone. */}}
{{- define "trunkline.turn" -}}
{{- $env := list -}}
{{- $files := list -}}
{{- range (include "trunkline.apps" . | fromJson).apps -}}
{{- range dig "ice" "turn" list . -}}
{{- with .secret_env }}{{ $env = append $env . }}{{ end -}}
{{- with .secret_file }}{{ $files = append $files . }}{{ end -}}
{{- end -}}
{{- end -}}
{{- dict "env" ($env | uniq) "files" ($files | uniq) | toJson -}}
{{- end -}}

{{/* The labels that the official NATS chart selects its servers by. */}}
{{- define "trunkline.natsSelector" -}}
app.kubernetes.io/name: {{ default "nats" .Values.nats.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: nats
{{- end -}}

{{/* The ports of `natsClient.servers`, as a JSON array. */}}
{{- define "trunkline.serverPorts" -}}
{{- $ports := list -}}
{{- range .Values.natsClient.servers -}}
{{- $ports = append $ports (default 4222 (include "trunkline.portOf" . | int)) -}}
{{- end -}}
{{- $ports | uniq | toJson -}}
{{- end -}}

{{/* Not empty: the host, perhaps with a port, is a Service of the cluster, whose pods may have other ports. */}}
{{- define "trunkline.isInside" -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" -}}
{{- if or (not (contains "." $host)) (regexMatch "[.]svc([.]|$)" $host) }}yes{{ end -}}
{{- end -}}

{{/* The servers that the configuration names (hooks, key sets, traces): ports of those outside into `holder.ports`, and whether there are
     any in the cluster into `holder.inside`: { "value", "holder" }. */}}
{{- define "trunkline.urlPorts" -}}
{{- $holder := .holder -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- if and (kindIs "string" $value) (has $key (list "url" "jwks_url" "endpoint")) (contains "://" $value) -}}
{{- $url := urlParse $value -}}
{{- if include "trunkline.isInside" $url.host -}}
{{- $_ := set $holder "inside" true -}}
{{- else -}}
{{- $port := include "trunkline.portOf" $url.host | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- $_ := set $holder "ports" (append $holder.ports $port) -}}
{{- end -}}
{{- else -}}
{{- include "trunkline.urlPorts" (dict "value" $value "holder" $holder) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range .value -}}
{{- include "trunkline.urlPorts" (dict "value" . "holder" $holder) -}}
{{- end -}}
{{- end -}}
{{- end -}}
