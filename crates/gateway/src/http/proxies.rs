//! Who a request is from: the peer of its connection, or what proxies in front say of it. `X-Forwarded-*` is believed only from
//! addresses that the configuration names (`http.trusted_proxies`); from anybody else it is as if it were not there.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longer chains of proxies are cut off: what is further away is not looked at.
const MOST_HOPS: usize = 32;

/// A network in CIDR form, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A request's origin, as far as it can be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The client.
    pub client: IpAddr,
    /// The client speaks TLS to the outermost proxy.
    pub secure: bool,
    /// The host that the client asked for.
    pub host: Option<HeaderValue>,
}

impl Origin {
    /// The client is the last address of `X-Forwarded-For` that is no trusted proxy: whoever it claims to speak for is its own say.
    pub fn of(trusted: &[Network], peer: SocketAddr, headers: &HeaderMap) -> Self {
        let peer = peer.ip().to_canonical();
        let own_host = headers.get(http::header::HOST).cloned();
        if !is_trusted(trusted, peer) {
            return Self { client: peer, secure: false, host: own_host };
        }
        let secure = last(headers, "x-forwarded-proto").is_some_and(|it| matches!(it, "https" | "wss"));
        let host = last(headers, "x-forwarded-host").and_then(|host| HeaderValue::from_str(host).ok());
        Self { client: client(trusted, peer, headers), secure, host: host.or(own_host) }
    }
}

/// Walks the chain from its near end; what cannot be read ends it.
fn client(trusted: &[Network], peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|l| l.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(',')).take(MOST_HOPS);
    let mut nearest = peer;
    for hop in hops {
        let Some(address) = address(hop) else { break };
        nearest = address;
        if !is_trusted(trusted, address) {
            break;
        }
    }
    nearest
}

/// The value nearest to us: of several, the one that the trusted proxy added.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// An address as proxies write it: with a port, or an IPv6 address in brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim().trim_matches('"');
    let plain = hop.parse::<IpAddr>().ok();
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    plain.or_else(with_port).or_else(in_brackets).map(|address| address.to_canonical())
}

fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                same(own.to_bits().into(), other.to_bits().into(), 32, self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => same(own.to_bits(), other.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

/// Whether two addresses of `width` bits agree in the first `bits`.
fn same(a: u128, b: u128, width: u8, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (width - bits) == 0
}

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no network: write an address, or an address and a number of bits, like `10.0.0.0/8`")]
pub struct NetworkError(String);

impl std::str::FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse::<u8>().map_err(|_| wrong()))?;
        if bits <= width { Ok(Self { address, bits }) } else { Err(wrong()) }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Written out, as a token source's is, so that a TOML error knows its place.
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Network;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a network")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Network, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(peer: &str, headers: &[(&'static str, &'static str)]) -> (String, bool, String) {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "192.0.2.7", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("own.example"));
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let origin = Origin::of(&trusted, peer.parse().unwrap(), &map);
        let host = origin.host.unwrap().to_str().unwrap().to_owned();
        (origin.client.to_string(), origin.secure, host)
    }

    #[test]
    fn only_trusted_proxies_say_who_a_client_is() {
        let said = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
        ];
        let believed = ("198.51.100.1".to_owned(), true, "public.example".to_owned());
        assert_eq!(origin("10.1.2.3:5", &said), believed);
        assert_eq!(origin("[::ffff:10.1.2.3]:5", &said), believed, "IPv4 in IPv6's clothes");
        assert_eq!(origin("[fd00::1]:5", &said), believed);
        assert_eq!(origin("192.0.2.7:5", &said), believed);
        for stranger in ["11.1.2.3:5", "192.0.2.8:5", "[fe00::1]:5"] {
            let (client, secure, host) = origin(stranger, &said);
            assert!(stranger.contains(&client) && !secure && host == "own.example", "{stranger}: {client}");
        }
        assert_eq!(origin("10.1.2.3:5", &[]), ("10.1.2.3".into(), false, "own.example".into()));
    }

    #[test]
    fn a_client_is_the_first_that_no_trusted_proxy_vouches_for() {
        let chains = [
            ("1.1.1.1, 2.2.2.2", "2.2.2.2"),
            ("1.1.1.1, 2.2.2.2, 10.9.9.9", "2.2.2.2"),
            ("10.0.0.1, 10.0.0.2", "10.0.0.1"),
            ("2.2.2.2:4711", "2.2.2.2"),
            ("\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("3.3.3.3, unknown", "10.1.2.3"),
            ("3.3.3.3, nonsense, 10.0.0.5", "10.0.0.5"),
            ("", "10.1.2.3"),
        ];
        for (chain, client) in chains {
            assert_eq!(origin("10.1.2.3:5", &[("x-forwarded-for", chain)]).0, client, "{chain}");
        }
        let lines = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2, 10.0.0.9")];
        assert_eq!(origin("10.1.2.3:5", &lines).0, "2.2.2.2", "several lines are one chain");
        let protos = [("x-forwarded-proto", "https, http")];
        assert!(!origin("10.1.2.3:5", &protos).1, "the nearest proxy's word");
    }

    #[test]
    fn networks_are_written_as_everywhere() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32"] {
            assert!(good.parse::<Network>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "host", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains("255.1.2.3".parse().unwrap()));
    }
}
