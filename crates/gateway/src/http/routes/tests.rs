//! Which configurations are refused, at which key, and which are not.

use serde_json::{Value, json};

use super::*;

/// Applications by their keys; the first is app[0].
fn mistakes(apps: &[Value]) -> Vec<String> {
    let read = |keys: &Value| serde_json::from_value(keys.clone()).expect("keys of an application");
    let config = GatewayConfig { app: apps.iter().map(read).collect(), ..GatewayConfig::default() };
    check(&config).iter().map(ToString::to_string).collect()
}

/// The keys that mistakes are at.
fn keys(apps: &[Value]) -> Vec<String> {
    let key = |mistake: &String| mistake.split(": ").next().unwrap_or_default().to_owned();
    mistakes(apps).iter().map(key).collect()
}

#[test]
fn listener_host_and_path_tell_applications_apart() {
    let apart = [
        [json!({}), json!({ "path": "/other" })],
        [json!({}), json!({ "hosts": ["a.example"] })],
        [json!({ "hosts": ["a.example"] }), json!({ "hosts": ["b.example"] })],
        [json!({}), json!({ "listen": ["127.0.0.1:1"] })],
        [json!({ "listen": ["127.0.0.1:1"] }), json!({ "listen": ["127.0.0.1:2"] })],
        [json!({ "plain_path": "/events" }), json!({ "path": "/other", "plain_path": "/other-events" })],
        [json!({ "plain_path": "/events" }), json!({ "hosts": ["a.example"], "plain_path": "/events" })],
    ];
    for apps in apart {
        assert_eq!(mistakes(&apps), [""; 0], "{apps:?}");
    }
}

#[test]
fn what_no_request_can_tell_apart_is_refused() {
    let refused = [
        ([json!({}), json!({})], "app[1].namespace"),
        ([json!({}), json!({ "path": "/socket.io" })], "app[1].namespace"),
        (
            [json!({ "hosts": ["a.example", "b.example"] }), json!({ "hosts": ["B.Example."] })],
            "app[1].namespace",
        ),
        (
            [json!({ "listen": ["127.0.0.1:1", "127.0.0.1:2"] }), json!({ "listen": ["127.0.0.1:2"] })],
            "app[1].namespace",
        ),
        // One free port serves all who ask for it at the same address.
        ([json!({ "listen": ["127.0.0.1:0"] }), json!({ "listen": ["127.0.0.1:0"] })], "app[1].namespace"),
        ([json!({}), json!({ "path": "/other", "plain_path": "/socket.io/" })], "app[1].plain_path"),
        ([json!({ "plain_path": "/other/" }), json!({ "path": "/other" })], "app[1].path"),
        (
            [json!({ "plain_path": "/events" }), json!({ "path": "/other", "plain_path": "/events" })],
            "app[1].plain_path",
        ),
    ];
    for (apps, key) in refused {
        assert_eq!(keys(&apps), [key], "{apps:?}");
    }
}

#[test]
fn the_namespace_tells_applications_of_one_site_apart() {
    let of = |namespace: &str| json!({ "namespace": namespace, "hosts": ["a.example", "b.example"] });
    let other_order =
        json!({ "namespace": "/c", "hosts": ["B.Example.", "a.example"], "path": "/socket.io" });
    assert_eq!(mistakes(&[of("/a"), of("/b"), other_order]), [""; 0]);
    assert_eq!(keys(&[of("/a"), of("/b"), of("/a")]), ["app[2].namespace"]);
    assert_eq!(keys(&[of("/a"), of("/b"), of("/b")]), ["app[2].namespace"]);
    let of_host = json!({ "namespace": "/a", "hosts": ["c.example"] });
    assert_eq!(mistakes(&[of("/a"), of_host]), [""; 0]);
}

#[test]
fn what_sessions_are_made_with_is_the_same_for_a_site() {
    let different = [
        (json!({ "parser": "msgpack" }), "parser"),
        (json!({ "cors_origins": ["https://a.example"] }), "cors_origins"),
        (json!({ "compress_over_bytes": 1024 }), "compress_over_bytes"),
        (json!({ "dialect": "conformance" }), "dialect"),
        (json!({ "listen": ["127.0.0.1:8080", "127.0.0.1:8081"] }), "listen"),
        (json!({ "limits": { "ping_interval_ms": 10 } }), "limits.ping_interval_ms"),
        (json!({ "limits": { "max_sessions": 10 } }), "limits.max_sessions"),
    ];
    for (mut keys_of_second, key) in different {
        keys_of_second["namespace"] = "/b".into();
        assert_eq!(keys(&[json!({}), keys_of_second]), [format!("app[1].{key}")]);
    }
    let hosts = |hosts: &[&str], namespace: &str| json!({ "hosts": hosts, "namespace": namespace });
    assert_eq!(
        keys(&[hosts(&["a.example", "b.example"], "/"), hosts(&["a.example"], "/b")]),
        ["app[1].hosts"]
    );
    let found = mistakes(&[json!({}), json!({ "namespace": "/b", "parser": "msgpack" })]);
    assert!(
        found[0].contains("the same as that of app[0]") && found[0].contains("before its namespace"),
        "{found:?}"
    );
    // What only sockets have may differ, and what is set to the general value does not.
    let own = json!({ "namespace": "/b", "limits": { "rooms_per_socket": 3, "ping_interval_ms": 25_000 } });
    assert_eq!(mistakes(&[json!({}), own]), [""; 0]);
}

#[test]
fn a_site_is_all_that_share_listener_host_and_path() {
    let of = |namespace: &str, path: &str| json!({ "namespace": namespace, "path": path });
    let app = |keys: Value| serde_json::from_value(keys).expect("keys of an application");
    let config = GatewayConfig {
        app: vec![app(of("/a", "/x")), app(of("/", "/y")), app(of("/b", "/x/"))],
        ..GatewayConfig::default()
    };
    let sites: Vec<_> = config.app.iter().map(|app| site_of(&config, app).to_vec()).collect();
    assert_eq!(sites, [vec![0, 2], vec![1], vec![0, 2]]);
}

#[test]
fn hosts_that_no_request_names_are_refused() {
    let wrong = [
        "",
        ".",
        "a.example:80",
        "http://a.example",
        "a.example/x",
        "*.example",
        "::1",
        "[::1]:80",
        "[x]",
        "bücher.example",
    ];
    for host in wrong {
        assert_eq!(keys(&[json!({ "hosts": [host] })]), ["app[0].hosts"], "{host}");
    }
    for host in ["a.example", "A.example.", "localhost", "10.0.0.1", "[::1]", "my_host-1"] {
        assert_eq!(mistakes(&[json!({ "hosts": [host] })]), [""; 0], "{host}");
    }
}

#[test]
fn paths_that_the_router_does_not_take_are_refused() {
    for path in ["/a/{b}", "/a?b", "/a#b", "/:a", "/a/*b", "/a b", "/ä", "/a\u{7f}"] {
        assert_eq!(keys(&[json!({ "path": path })]), ["app[0].path"], "{path}");
        assert_eq!(keys(&[json!({ "plain_path": path })]), ["app[0].plain_path"], "{path}");
    }
}

/// What is not refused must not stop the router.
#[test]
fn the_router_takes_every_path_that_is_not_refused() {
    let printable = (0x21..0x7f_u8).map(char::from);
    let paths =
        printable.flat_map(|c| [format!("/{c}"), format!("/{c}a"), format!("/a{c}/b"), format!("/a/{c}{c}")]);
    let mut taken = 0;
    for path in paths.filter(|path| mistake_of(path).is_none()) {
        let base = path.trim_end_matches('/');
        if !base.is_empty() {
            let handler = || axum::routing::any(async || ());
            let router: axum::Router = axum::Router::new().route(base, handler());
            let _ = router.route(&format!("{base}/"), handler());
            taken += 1;
        }
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn ports_case_and_the_last_dot_of_a_host_do_not_count() {
    let cases = [
        ("A.example", "a.example"),
        ("a.example:8080", "a.example"),
        ("a.example.:8080", "a.example"),
        ("a.example.", "a.example"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ];
    for (host, name) in cases {
        assert_eq!(name_of(host), name);
    }
}
