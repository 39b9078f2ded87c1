//! Whom a server lets in: how many, from where, and after which proof.
//!
//! A handshake whose client has not shown that it can be reached at its address takes nobody's
//! place: there are few of them, and from then on newcomers show it first (RFC 9000 §8.1.2).

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use crate::ServerOptions;

/// What counts as one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 4]),
    /// 64 bits, what one customer gets at least (RFC 6177): its addresses are his to choose.
    V6([u8; 8]),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// What a connection takes of its server.
#[derive(Debug)]
pub(crate) struct Place {
    network: Network,
    in_handshake: bool,
    /// Its address is known to be its own: only then it takes a place.
    is_counted: bool,
}

/// The places of a server. Every connection is entered and leaves once.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    handshakes: usize,
    counted: usize,
    of_network: FxHashMap<Network, usize>,
}

impl Admission {
    /// Whether a newcomer from there finds a place.
    pub(crate) fn has_place(&self, network: Network, limits: &ServerOptions) -> bool {
        !self.is_full(limits) && !self.is_crowded(network, limits)
    }

    /// Whether all places are taken.
    pub(crate) fn is_full(&self, limits: &ServerOptions) -> bool {
        self.counted >= limits.max_connections
    }

    /// Whether the places of this network are taken.
    pub(crate) fn is_crowded(&self, network: Network, limits: &ServerOptions) -> bool {
        self.of_network.get(&network).copied().unwrap_or_default()
            >= limits.max_connections_per_address
    }

    /// Whether newcomers are asked for proof.
    pub(crate) fn wants_proof(&self, limits: &ServerOptions) -> bool {
        limits.retry || self.handshakes >= limits.retry_above
    }

    /// A handshake begins.
    pub(crate) fn enter(&mut self, network: Network, is_proven: bool) -> Place {
        self.handshakes += 1;
        let mut place = Place {
            network,
            in_handshake: true,
            is_counted: false,
        };
        if is_proven {
            self.count(&mut place);
        }
        place
    }

    /// A handshake is over, which proves the address if it went well. False: somebody else has
    /// taken its place.
    pub(crate) fn end_handshake(
        &mut self,
        place: &mut Place,
        went_well: bool,
        limits: &ServerOptions,
    ) -> bool {
        if std::mem::take(&mut place.in_handshake) {
            self.handshakes = self.handshakes.saturating_sub(1);
        }
        if !went_well || place.is_counted {
            return true;
        }
        if !self.has_place(place.network, limits) {
            return false;
        }
        self.count(place);
        true
    }

    pub(crate) fn leave(&mut self, place: Place) {
        if place.in_handshake {
            self.handshakes = self.handshakes.saturating_sub(1);
        }
        if !place.is_counted {
            return;
        }
        self.counted = self.counted.saturating_sub(1);
        if let Some(count) = self.of_network.get_mut(&place.network) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of_network.remove(&place.network);
            }
        }
    }

    fn count(&mut self, place: &mut Place) {
        place.is_counted = true;
        self.counted += 1;
        *self.of_network.entry(place.network).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> Network {
        Network::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn strangers_are_few_and_count_when_they_arrive() {
        let limits = ServerOptions {
            max_connections: 8,
            retry_above: 2,
            ..ServerOptions::default()
        };
        let here = network("192.0.2.1");
        let mut admission = Admission::default();
        let mut strangers = Vec::new();
        for _ in 0..2 {
            assert!(!admission.wants_proof(&limits));
            strangers.push(admission.enter(here, false));
        }
        assert!(admission.wants_proof(&limits));
        let mut proven = Vec::new();
        for _ in 0..8 {
            assert!(admission.has_place(here, &limits));
            proven.push(admission.enter(here, true));
        }
        assert!(!admission.has_place(here, &limits));
        assert!(!admission.end_handshake(&mut strangers[0], true, &limits));
        admission.leave(proven.remove(0));
        assert!(admission.end_handshake(&mut strangers[1], true, &limits));
        assert!(!admission.has_place(here, &limits));
        for place in proven.into_iter().chain(strangers) {
            admission.leave(place);
        }
        assert_eq!((admission.handshakes, admission.counted), (0, 0));
        assert!(admission.of_network.is_empty());
    }

    #[test]
    fn a_handshake_that_fails_takes_no_place() {
        let limits = ServerOptions {
            max_connections: 1,
            ..ServerOptions::default()
        };
        let here = network("192.0.2.1");
        let mut admission = Admission::default();
        let mut place = admission.enter(here, false);
        assert!(admission.end_handshake(&mut place, false, &limits));
        assert!(admission.has_place(here, &limits));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1:2:3"));
        assert_ne!(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        let limits = ServerOptions {
            max_connections_per_address: 1,
            ..ServerOptions::default()
        };
        let mut admission = Admission::default();
        let place = admission.enter(network("2001:db8::1"), true);
        assert!(!admission.has_place(network("2001:db8::2"), &limits));
        assert!(admission.has_place(network("2001:db8:0:1::"), &limits));
        admission.leave(place);
        assert!(admission.has_place(network("2001:db8::2"), &limits));
    }
}
