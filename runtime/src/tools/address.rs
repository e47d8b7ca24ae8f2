//! Which addresses a tool may connect to: public ones, and networks that the operator named.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a network such as `10.1.0.0/16` or `fd00:1::/32`".to_owned();
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_no_address| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_no_number| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest { Err(wrong()) } else { Ok(Self { address, prefix }) }
    }
}

impl Network {
    fn of_v4(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address: address.into(), prefix }
    }

    fn of_v6(address: Ipv6Addr, prefix: u8) -> Self {
        Self { address: address.into(), prefix }
    }

    /// Whether an address lies in it. A v4 address in the clothes of v6 lies in networks of v6 alone.
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        let (own, other, width) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (u128::from(own.to_bits()), u128::from(other.to_bits()), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let rest = u32::from(width - self.prefix.min(width));
        own.checked_shr(rest) == other.checked_shr(rest)
    }
}

/// Whether an address belongs to somebody on the internet at large.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let is_kept = match (a, b, c) {
                // This host, private, loopback, multicast and what is reserved; then carrier-grade NAT, link-local, private;
                // then protocol assignments, documentation, 6to4 relays, benchmarks.
                (0 | 10 | 127 | 224.., ..)
                | (100, 64..=127, _)
                | (169, 254, _)
                | (172, 16..=31, _)
                | (192, 168, _)
                | (192, 0, 0 | 2)
                | (192, 88, 99)
                | (198, 18 | 19, _)
                | (198, 51, 100)
                | (203, 0, 113) => true,
                _ => false,
            };
            !is_kept
        }
        // Global unicast alone: so neither loopback, mapped or translated v4 (`::ffff:…`, `64:ff9b::…`), unique local,
        // link-local, site-local nor multicast.
        IpAddr::V6(address) => {
            let global = Network::of_v6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
            let kept = [
                // Teredo and other protocol assignments, documentation, 6to4, documentation again.
                (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
                (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
                (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
                (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
            ];
            let is_kept = |(kept, prefix)| Network::of_v6(kept, prefix).holds(address.into());
            global.holds(address.into()) && !kept.into_iter().any(is_kept)
        }
    }
}

/// Networks that are never reached although the operator opened what is around them: where clouds keep credentials.
pub(super) fn is_metadata(address: IpAddr) -> bool {
    Network::of_v4(Ipv4Addr::new(169, 254, 0, 0), 16).holds(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public_is_told_in_every_form() {
        for kept in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.9.9",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::808:808",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(kept.parse().expect("address")), "{kept}");
        }
        for public in ["1.1.1.1", "8.8.8.8", "100.63.0.1", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255"] {
            assert!(is_public(public.parse().expect("address")), "{public}");
        }
        for public in ["2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2001:200::1"] {
            assert!(is_public(public.parse().expect("address")), "{public}");
        }
    }

    #[test]
    fn a_network_holds_its_own() {
        let holds = |network: &str, address: &str| {
            network.parse::<Network>().expect("network").holds(address.parse().expect("address"))
        };
        assert!(holds("10.1.0.0/16", "10.1.255.1") && !holds("10.1.0.0/16", "10.2.0.1"));
        assert!(holds("127.0.0.1/32", "127.0.0.1") && !holds("127.0.0.1/32", "127.0.0.2"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && holds("::/0", "::1"));
        assert!(holds("fd00:1::/32", "fd00:1:2::3") && !holds("fd00:1::/32", "fd00:2::1"));
        assert!(!holds("127.0.0.0/8", "::ffff:127.0.0.1"), "v4 in the clothes of v6");
        for wrong in ["10.0.0.0", "10.0.0.0/33", "::/129", "x/8", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert!(is_metadata("169.254.169.254".parse().expect("address")));
    }
}
