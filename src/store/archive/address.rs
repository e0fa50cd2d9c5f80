//! Which addresses a tenant may send the operator to: the IANA special-purpose registries, and cloud metadata.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// What sort of address it is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// Reachable from anywhere.
    Public,
    /// The machine itself.
    Loopback,
    /// A network of one's own: RFC 1918, unique local IPv6.
    Private,
    /// One link; cloud metadata services live there.
    LinkLocal,
    /// Behind a carrier's translation, RFC 6598.
    SharedCarrier,
    /// A cloud metadata service at an otherwise public address.
    Metadata,
    /// A group.
    Multicast,
    /// None at all.
    Unspecified,
    /// Reserved for documentation, benchmarks, tunnels or the future.
    Reserved,
}

impl fmt::Display for AddressKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::SharedCarrier => "carrier-shared",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        })
    }
}

/// Azure's host service, which answers with a machine's credentials; it lies in a public range.
const AZURE_HOST: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

pub(super) fn kind(address: IpAddr) -> AddressKind {
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        _ if address == AZURE_HOST => AddressKind::Metadata,
        [0, ..] => AddressKind::Unspecified,
        [127, ..] => AddressKind::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressKind::Private,
        [169, 254, ..] => AddressKind::LinkLocal,
        [100, 64..=127, ..] => AddressKind::SharedCarrier,
        [224..=239, ..] => AddressKind::Multicast,
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => AddressKind::Reserved,
        _ => AddressKind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> AddressKind {
    if address.is_unspecified() {
        return AddressKind::Unspecified;
    }
    if address.is_loopback() {
        return AddressKind::Loopback;
    }
    match address.segments() {
        // An IPv4 address in other clothes: mapped, and translated by NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => kind_v4(embedded(high, low)),
        [0xfc00..=0xfdff, ..] => AddressKind::Private,
        [0xfe80..=0xfebf, ..] => AddressKind::LinkLocal,
        [0xff00..=0xffff, ..] => AddressKind::Multicast,
        // Tunnels (Teredo, 6to4) end at an address that is not seen here; the rest is documentation and benchmarks.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => AddressKind::Reserved,
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        _ => AddressKind::Reserved,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_network_is_told_from_a_public_one() {
        for (text, expected) in [
            ("1.1.1.1", AddressKind::Public),
            ("2606:4700::1111", AddressKind::Public),
            ("::ffff:1.1.1.1", AddressKind::Public),
            ("64:ff9b::101:101", AddressKind::Public),
            ("172.15.0.1", AddressKind::Public),
            ("172.32.0.1", AddressKind::Public),
            ("100.63.0.1", AddressKind::Public),
            ("100.128.0.1", AddressKind::Public),
            ("127.0.0.1", AddressKind::Loopback),
            ("127.255.255.254", AddressKind::Loopback),
            ("::1", AddressKind::Loopback),
            ("::ffff:127.0.0.1", AddressKind::Loopback),
            ("64:ff9b::7f00:1", AddressKind::Loopback),
            ("10.1.2.3", AddressKind::Private),
            ("172.16.0.1", AddressKind::Private),
            ("172.31.255.255", AddressKind::Private),
            ("192.168.1.1", AddressKind::Private),
            ("fd00:ec2::254", AddressKind::Private),
            ("fc00::1", AddressKind::Private),
            ("169.254.169.254", AddressKind::LinkLocal),
            ("::ffff:169.254.169.254", AddressKind::LinkLocal),
            ("fe80::1", AddressKind::LinkLocal),
            ("100.100.100.200", AddressKind::SharedCarrier),
            ("168.63.129.16", AddressKind::Metadata),
            ("224.0.0.1", AddressKind::Multicast),
            ("ff02::1", AddressKind::Multicast),
            ("0.0.0.0", AddressKind::Unspecified),
            ("0.1.2.3", AddressKind::Unspecified),
            ("::", AddressKind::Unspecified),
            ("192.0.0.192", AddressKind::Reserved),
            ("192.0.2.1", AddressKind::Reserved),
            ("198.18.0.1", AddressKind::Reserved),
            ("255.255.255.255", AddressKind::Reserved),
            ("2001::1", AddressKind::Reserved),
            ("2001:db8::1", AddressKind::Reserved),
            ("2002:7f00:1::", AddressKind::Reserved),
            ("::127.0.0.1", AddressKind::Reserved),
            ("fec0::1", AddressKind::Reserved),
        ] {
            assert_eq!(kind(text.parse().unwrap()), expected, "{text}");
        }
    }
}
