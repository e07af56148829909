{{/* What the schema cannot say: combinations that are unsafe, or that would not start. All of them are told at once. */}}

{{- define "trunkline.validate" -}}
{{- $refusals := dict "list" list -}}
{{- $in := dict "root" . "refusals" $refusals -}}
{{- include "trunkline.validate.owned" $in -}}
{{- include "trunkline.validate.apps" $in -}}
{{- include "trunkline.validate.secrets" $in -}}
{{- include "trunkline.validate.replicas" $in -}}
{{- include "trunkline.validate.nats" $in -}}
{{- include "trunkline.validate.rest" $in -}}
{{- if $refusals.list -}}
{{- fail (printf "\n\nThese values cannot be used:\n- %s\n" ($refusals.list | uniq | join "\n- ")) -}}
{{- end -}}
{{- end -}}

{{/* { "in", "text" }: adds a sentence. */}}
{{- define "trunkline.refuse" -}}
{{- $refusals := .in.refusals -}}
{{- $_ := set $refusals "list" (append $refusals.list .text) -}}
{{- end -}}

{{/* Keys of the configuration that the chart sets. */}}
{{- define "trunkline.validate.owned" -}}
{{- $in := . -}}
{{- $config := .root.Values.config -}}
{{- $owned := dict
  "node.name" "the chart sets it to the pod's name"
  "node.drain_s" "set gateway.drainSeconds"
  "http.listen" "set gateway.port"
  "http.admin" "set gateway.adminPort"
  "api.listen" "set gateway.apiPort"
  "coordinator.admin" "set coordinator.adminPort"
  "nats.servers" "set natsClient.servers or nats.enabled"
  "nats.replicas" "set natsClient.replicas"
  "nats.user" "set natsClient.login"
  "nats.password" "set natsClient.login"
  "nats.token" "set natsClient.login"
  "nats.nkey_seed" "set natsClient.login"
  "nats.creds_file" "set natsClient.login"
  "nats.tls" "set natsClient.tls"
-}}
{{- range $path, $instead := $owned -}}
{{- $names := splitList "." $path -}}
{{- $section := get $config (first $names) -}}
{{- if and (kindIs "map" $section) (hasKey $section (last $names)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "config.%s is the chart's own: %s." $path $instead)) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $config "production" -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "config.production is the chart's own: set production.") -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.validate.apps" -}}
{{- $in := . -}}
{{- $production := .root.Values.production -}}
{{- $apps := (include "trunkline.apps" .root | fromJson).apps -}}
{{- if not $apps -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "config.app is empty: describe at least one application (docs/kubernetes.md has an example).") -}}
{{- end -}}
{{- range $index, $app := $apps -}}
{{- $at := printf "config.app[%d] (%s)" $index (default "no name" $app.name) -}}
{{- if eq (default "" $app.dialect) "conformance" -}}
{{- if $production -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s speaks the dialect `conformance`, which has no authentication: it is for tests, with production: false." $at)) -}}
{{- end -}}
{{- else if eq (default "jwt" $app.auth) "none" -}}
{{- if and $production (not $app.acknowledge_no_auth) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s has auth: none, so whoever connects may say to be any user: use auth: jwt, or say that it is meant with acknowledge_no_auth: true." $at)) -}}
{{- end -}}
{{- else -}}
{{- include "trunkline.validate.key" (dict "in" $in "at" $at "app" $app) -}}
{{- end -}}
{{- if and $production $app.dev_users -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s has dev_users, which are for development: take them out, or set production: false." $at)) -}}
{{- end -}}
{{- if and $production (dig "chat" "open" false $app) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s has chat.open, which lets everybody into every chat: take it out, or set production: false." $at)) -}}
{{- end -}}
{{- if and $production (not (dig "issue" "cookie" "secure" true $app)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s has issue.cookie.secure: false, which sends tokens without TLS: take it out, or set production: false." $at)) -}}
{{- end -}}
{{- range $app.listen -}}
{{- if not (include "trunkline.portOf" .) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s listens on `%s`: write an address with a port, like 0.0.0.0:3001." $at .)) -}}
{{- else if or (hasPrefix "127." .) (hasPrefix "[::1]" .) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s listens on `%s`, where nobody outside of the pod reaches it: write 0.0.0.0 or [::]." $at .)) -}}
{{- else if has (include "trunkline.portOf" . | int) (list (int $in.root.Values.gateway.adminPort) (int $in.root.Values.gateway.apiPort)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s listens on `%s`, which is the port of metrics or of the server API: take another." $at .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* An application verifies tokens, so it needs a key. JWT_SECRET is the key of all that name none. */}}
{{- define "trunkline.validate.key" -}}
{{- $token := default dict .app.token -}}
{{- $named := or $token.secret_env $token.secret_file $token.secret $token.keys $token.jwks_url $token.jwks_file -}}
{{- $hmac := or (not $token.algorithms) (contains "HS" (join " " (default list $token.algorithms))) -}}
{{- $common := and $hmac (has "JWT_SECRET" (include "trunkline.variables" .in.root | fromJsonArray)) -}}
{{- if not (or $named $common) -}}
{{- include "trunkline.refuse" (dict "in" .in "text" (printf "%s has no key to verify tokens with: name one in token.secret_env (and bring it with secrets.env), token.secret_file, token.keys or token.jwks_url." .at)) -}}
{{- end -}}
{{- end -}}

{{/* Environment variables that gateways are given, as a JSON array. */}}
{{- define "trunkline.variables" -}}
{{- $names := keys .Values.secrets.env -}}
{{- range .Values.gateway.extraEnv -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "trunkline.validate.secrets" -}}
{{- $found := dict "plain" list "env" list "files" list -}}
{{- include "trunkline.findSecrets" (dict "value" .root.Values.config "at" "config" "found" $found "production" .root.Values.production) -}}
{{- $in := . -}}
{{- range $found.plain -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s is a secret in plain text, and the configuration is a ConfigMap: put it into a Secret and name that (secret_env with secrets.env, or secret_file with secrets.files)." .)) -}}
{{- end -}}
{{- $variables := include "trunkline.variables" .root | fromJsonArray -}}
{{- $named := list -}}
{{- range $found.env -}}
{{- $named = append $named .value -}}
{{- if not (has .value $variables) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s names the variable %s, which nothing brings: add it to secrets.env." .at .value)) -}}
{{- end -}}
{{- end -}}
{{- range $file := $found.files -}}
{{- $rest := trimPrefix "/etc/trunkline/secrets/" $file.value -}}
{{- $name := first (splitList "/" $rest) -}}
{{- if and (ne $rest $file.value) (not (hasKey $in.root.Values.secrets.files $name)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s is in the directory of the secret `%s`, which nothing brings: add it to secrets.files." $file.at $name)) -}}
{{- end -}}
{{- end -}}
{{- range $role := list "gateway" "coordinator" -}}
{{- range $index, $entry := (get $in.root.Values $role).extraEnv -}}
{{- if eq $entry.name "TRUNKLINE_PRODUCTION" -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s.extraEnv[%d] sets TRUNKLINE_PRODUCTION, which is the chart's own: set production." $role $index)) -}}
{{- else if and $entry.value (or (regexMatch "(SECRET|PASSWORD|TOKEN|SEED)$" $entry.name) (has $entry.name $named)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s.extraEnv[%d] has the secret %s in plain text: put it into a Secret and name that in secrets.env." $role $index $entry.name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $index, $server := .root.Values.natsClient.servers -}}
{{- if contains "@" $server -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "natsClient.servers[%d] has a login in its address, in plain text: use natsClient.login." $index)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Secrets in plain text, and the variables and files that secrets are named by: { "value", "at", "found", "production" }. */}}
{{- define "trunkline.findSecrets" -}}
{{- $in := . -}}
{{- $found := .found -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $at := printf "%s.%s" $in.at $key -}}
{{- if and (eq $key "dev_users") (not $in.production) -}}
{{- /* Logins of a development setup are meant to be known. */ -}}
{{- else if kindIs "string" $value -}}
{{- if or (has $key (list "secret" "password" "nkey_seed")) (contains "PRIVATE KEY" $value) -}}
{{- $_ := set $found "plain" (append $found.plain $at) -}}
{{- else if eq $key "secret_env" -}}
{{- $_ := set $found "env" (append $found.env (dict "at" $at "value" $value)) -}}
{{- else if hasPrefix "/etc/trunkline/secrets/" $value -}}
{{- $_ := set $found "files" (append $found.files (dict "at" $at "value" $value)) -}}
{{- end -}}
{{- else -}}
{{- include "trunkline.findSecrets" (dict "value" $value "at" $at "found" $found "production" $in.production) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $item := .value -}}
{{- include "trunkline.findSecrets" (dict "value" $item "at" (printf "%s[%d]" $in.at $index) "found" $found "production" $in.production) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Production means that any one process may die. */}}
{{- define "trunkline.validate.replicas" -}}
{{- $in := . -}}
{{- $values := .root.Values -}}
{{- $scaling := $values.gateway.autoscaling -}}
{{- if $values.production -}}
{{- $counts := dict "coordinator.replicas" (int $values.coordinator.replicas) "natsClient.replicas" (int $values.natsClient.replicas) -}}
{{- if $scaling.enabled -}}
{{- $_ := set $counts "gateway.autoscaling.minReplicas" (int $scaling.minReplicas) -}}
{{- else -}}
{{- $_ := set $counts "gateway.replicas" (int $values.gateway.replicas) -}}
{{- end -}}
{{- range $key, $count := $counts -}}
{{- if lt $count 2 -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s is %d, so the loss of one is an outage: use %s, or set production: false." $key $count (ternary "3 or 5" "at least 2" (eq $key "natsClient.replicas")))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $scaling.enabled -}}
{{- if lt (int $scaling.maxReplicas) (int $scaling.minReplicas) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "gateway.autoscaling.maxReplicas is less than minReplicas.") -}}
{{- end -}}
{{- if not (or $scaling.targetConnections $scaling.targetCPUPercent) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "gateway.autoscaling has nothing to go by: set targetConnections or targetCPUPercent.") -}}
{{- end -}}
{{- if and $scaling.targetCPUPercent (not (dig "requests" "cpu" "" $values.gateway.resources)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "gateway.autoscaling.targetCPUPercent is a part of what is requested: set gateway.resources.requests.cpu.") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "trunkline.validate.nats" -}}
{{- $in := . -}}
{{- $values := .root.Values -}}
{{- $client := $values.natsClient -}}
{{- if $values.nats.enabled -}}
{{- if $client.servers -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "natsClient.servers names a NATS of your own, and nats.enabled installs another: set nats.enabled: false.") -}}
{{- end -}}
{{- if not (hasKey .root.Subcharts "nats") -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "nats.enabled is true, but the NATS chart is not in charts/: run `helm dependency build`, or name a NATS of your own in natsClient.servers and set nats.enabled: false.") -}}
{{- end -}}
{{- with $values.nats.namespaceOverride -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "nats.namespaceOverride is set: NATS of this release is looked for, and guarded, in the release's namespace. Install it by itself, and name it in natsClient.servers.") -}}
{{- end -}}
{{- if not (dig "config" "jetstream" "enabled" false $values.nats) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "nats.config.jetstream.enabled is false: what is acknowledged is stored in JetStream.") -}}
{{- end -}}
{{- $servers := ternary (dig "config" "cluster" "replicas" 3 $values.nats | int) 1 (dig "config" "cluster" "enabled" false $values.nats) -}}
{{- if lt $servers (int $client.replicas) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "natsClient.replicas is %d, but NATS has %d servers (nats.config.cluster.replicas)." (int $client.replicas) $servers)) -}}
{{- end -}}
{{- $most := dig "config" "merge" "max_payload" 1048576 $values.nats -}}
{{- $largest := dig "limits" "max_payload_bytes" 1000000 $values.config | int64 -}}
{{- range (include "trunkline.apps" .root | fromJson).apps -}}
{{- $largest = max $largest (dig "limits" "max_payload_bytes" 0 . | int64) -}}
{{- end -}}
{{- if and (not (typeIs "string" $most)) (lt (int64 $most) (add $largest 65536)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "nats.config.merge.max_payload is %d, too little for limits.max_payload_bytes of %d: it needs 65536 more than that." (int64 $most) $largest)) -}}
{{- end -}}
{{- else if not $client.servers -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "No NATS: name its addresses in natsClient.servers, or set nats.enabled: true.") -}}
{{- end -}}
{{- if and (ne $client.login.kind "none") (not $client.login.secret) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "natsClient.login.kind is `%s`: name the Secret with the login in natsClient.login.secret." $client.login.kind)) -}}
{{- end -}}
{{- if and (eq $client.login.kind "none") $client.login.secret -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "natsClient.login.secret is set, but natsClient.login.kind is `none`: say what kind of login it is.") -}}
{{- end -}}
{{- end -}}

{{/* The longest that the gateway's pods may take to end. */}}
{{- define "trunkline.gatewayGrace" -}}
{{- $gateway := .Values.gateway -}}
{{- $given := int $gateway.terminationGracePeriodSeconds -}}
{{- if $given }}{{ $given }}{{ else }}{{ add $gateway.preStopSeconds $gateway.drainSeconds 20 }}{{ end -}}
{{- end -}}

{{- define "trunkline.validate.rest" -}}
{{- $in := . -}}
{{- $values := .root.Values -}}
{{- $least := add $values.gateway.preStopSeconds $values.gateway.drainSeconds 15 | int -}}
{{- $grace := include "trunkline.gatewayGrace" .root | int -}}
{{- if lt $grace $least -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "gateway.terminationGracePeriodSeconds is %d, so nodes would be killed while they drain: it must be at least %d (preStopSeconds, drainSeconds and 15)." $grace $least)) -}}
{{- end -}}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "httpRoute.parentRefs is empty: name the Gateway that the routes hang on.") -}}
{{- end -}}
{{- $names := list -}}
{{- range (include "trunkline.apps" .root | fromJson).apps }}{{ $names = append $names .name }}{{ end -}}
{{- range $index, $route := $values.routes -}}
{{- if not (has $route.app $names) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "routes[%d].app is `%s`, but no application has that name." $index $route.app)) -}}
{{- end -}}
{{- end -}}
{{- if or $values.ingress.enabled $values.httpRoute.enabled -}}
{{- $seen := dict -}}
{{- range (include "trunkline.routes" .root | fromJson).routes -}}
{{- $route := printf "%s%s" (default "(any host)" .host) .path -}}
{{- if ne (get $seen $route | default .port | int) (int .port) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "Two applications with different ports would be at %s: give them hosts or paths of their own, or say in routes who is where." $route)) -}}
{{- end -}}
{{- $_ := set $seen $route .port -}}
{{- end -}}
{{- end -}}
{{- range $key, $type := dict "externalTrafficPolicy" (list "NodePort" "LoadBalancer") "loadBalancerClass" (list "LoadBalancer") "loadBalancerSourceRanges" (list "LoadBalancer") -}}
{{- if and (get $values.service $key) (not (has $values.service.type $type)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "service.%s is for the type %s, and service.type is %s." $key (join " or " $type) $values.service.type)) -}}
{{- end -}}
{{- end -}}
{{- if and $values.metrics.podMonitor.enabled $values.metrics.serviceMonitor.enabled -}}
{{- include "trunkline.refuse" (dict "in" $in "text" "metrics.podMonitor and metrics.serviceMonitor would both scrape every pod: enable one of them.") -}}
{{- end -}}
{{- range $file, $wanted := dict "files/rules.yaml" $values.metrics.prometheusRule.enabled "files/dashboard.json" $values.metrics.dashboard.enabled -}}
{{- if and $wanted (not ($in.root.Files.Get $file)) -}}
{{- include "trunkline.refuse" (dict "in" $in "text" (printf "%s is missing from the chart." $file)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
