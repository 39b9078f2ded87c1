//! One of several processes on one port: which packets are its own, and the secrets they share.
//!
//! The kernel gives each process its packets by the connection id, which only this server makes:
//!
//! ```text
//! octet 0     bits 7-5: 0, QUIC-LB's configuration id (draft-ietf-quic-load-balancers §3.1);
//!             the rest random
//! octet 1     random among the values whose remainder by the number of places is the place
//! octets 2-6  random
//! ```
//!
//! A client chooses the first id it sends to itself, of at least 8 octets (RFC 9000 §7.2), so 7
//! octets tell the server's ids from it.

use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid, RandomConnectionIdGenerator};
use ring::{hkdf, hmac};

use crate::Error;

/// A process's place among those that serve one port together.
#[derive(Clone)]
pub struct Worker {
    index: u8,
    count: u8,
    secret: hkdf::Prk,
}

impl Worker {
    /// Place `index` of `count`; `secret` is the same in all of them and nowhere else.
    pub fn new(index: u8, count: u8, secret: &[u8]) -> Result<Self, Error> {
        if index >= count {
            return Err(Error::OutOfRange {
                field: "worker index",
                value: index.into(),
            });
        }
        if secret.len() < MIN_SECRET {
            return Err(Error::OutOfRange {
                field: "octets of the workers' secret",
                value: secret.len() as u64,
            });
        }
        Ok(Self {
            index,
            count,
            secret: hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(secret),
        })
    }

    /// Whose packet it is when it is somebody else's.
    pub fn stranger(&self, packet: &[u8]) -> Option<usize> {
        let place = owner(packet, self.count)?;
        (place != self.index).then_some(place.into())
    }

    pub(crate) fn ids(&self) -> WorkerIds {
        WorkerIds {
            index: self.index,
            count: self.count,
            random: RandomConnectionIdGenerator::new(ID_LENGTH),
        }
    }

    pub(crate) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.derive(&[b"stateless reset"]))
    }

    pub(crate) fn token_key(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&self.derive(&[b"address validation"]))
    }

    pub(crate) fn ticket_key(&self, period: u32) -> [u8; KEY_LENGTH] {
        self.derive(&[b"session tickets", &period.to_be_bytes()])
    }

    fn derive(&self, info: &[&[u8]]) -> [u8; KEY_LENGTH] {
        let mut key = [0; KEY_LENGTH];
        // Fails only for keys longer than 255 hashes.
        if let Ok(material) = self.secret.expand(info, hkdf::HKDF_SHA256) {
            let _ = material.fill(&mut key);
        }
        key
    }
}

/// The place that a packet's connection id names; none for ids that a client has chosen, and for
/// what is no QUIC.
fn owner(packet: &[u8], count: u8) -> Option<u8> {
    let is_long = packet.first()? & 0x80 != 0;
    let octet = if is_long {
        // RFC 8999 §5.1: first octet, version, length of the id, the id.
        if usize::from(*packet.get(5)?) != ID_LENGTH {
            return None;
        }
        packet.get(7)?
    } else {
        packet.get(2)?
    };
    octet.checked_rem(count)
}

/// Makes connection ids that name their worker.
pub(crate) struct WorkerIds {
    index: u8,
    count: u8,
    random: RandomConnectionIdGenerator,
}

impl ConnectionIdGenerator for WorkerIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_LENGTH];
        id.copy_from_slice(&self.random.generate_cid());
        id[0] &= RANDOM_BITS;
        let values = ((u8::MAX - self.index) / self.count).saturating_add(1);
        id[1] = self.index + self.count * (id[1] % values);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let is_ours =
            id.len() == ID_LENGTH && id[0] & !RANDOM_BITS == 0 && id[1] % self.count == self.index;
        is_ours.then_some(()).ok_or(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        ID_LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Octets of the ids that workers make.
const ID_LENGTH: usize = 7;
/// Of an id's first octet.
const RANDOM_BITS: u8 = 0x1f;
/// Octets of a secret at least.
const MIN_SECRET: usize = 32;
/// Octets of the keys made from it.
pub(crate) const KEY_LENGTH: usize = 32;
/// Time between two stateless resets of a worker at least: one that was killed leaves as many
/// connections as it had, and each is told with one.
pub(crate) const RESET_INTERVAL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn worker(index: u8, count: u8) -> Worker {
        Worker::new(index, count, &SECRET).unwrap()
    }

    fn short(id: &[u8]) -> Vec<u8> {
        [&[0x40], id, &[0; 20]].concat()
    }

    fn long(id: &[u8]) -> Vec<u8> {
        [&[0xc0, 0, 0, 0, 1, id.len() as u8], id, &[0; 20]].concat()
    }

    #[test]
    fn an_id_leads_every_packet_to_its_worker() {
        for count in [1, 2, 3, 7, 100, 128, 255] {
            for index in [0, count / 2, count - 1] {
                let (own, mut ids) = (worker(index, count), worker(index, count).ids());
                for _ in 0..300 {
                    let id = ids.generate_cid();
                    assert_eq!(id.len(), 7);
                    assert_eq!(id[0] >> 5, 0);
                    assert_eq!(owner(&short(&id), count), Some(index));
                    assert_eq!(owner(&long(&id), count), Some(index));
                    assert_eq!(own.stranger(&short(&id)), None);
                    assert!(ids.validate(&id).is_ok());
                    if count > 1 {
                        let other = worker((index + 1) % count, count);
                        assert_eq!(other.stranger(&short(&id)), Some(index.into()));
                        assert!(other.ids().validate(&id).is_err());
                    }
                }
            }
        }
    }

    #[test]
    fn an_ids_second_octet_takes_every_value_it_may() {
        let mut ids = worker(3, 100).ids();
        let mut seen: Vec<u8> = (0..2000).map(|_| ids.generate_cid()[1]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [3, 103, 203]);
        let mut ids = worker(60, 100).ids();
        assert!((0..2000).all(|_| [60, 160].contains(&ids.generate_cid()[1])));
    }

    #[test]
    fn a_first_packet_and_no_packet_belong_to_whoever_has_them() {
        let first = worker(0, 2);
        for packet in [
            &long(&[1; 8])[..],
            &long(&[1; 20]),
            &long(&[]),
            &[],
            &[0x40],
            &[0x40, 1],
            &[0xc0, 0, 0, 0, 1],
            &[0xc0, 0, 0, 0, 1, 7, 1],
        ] {
            assert_eq!(first.stranger(packet), None, "{packet:?}");
        }
    }

    #[test]
    fn a_place_is_one_of_those_there_are_and_a_secret_is_long() {
        assert!(Worker::new(2, 2, &SECRET).is_err());
        assert!(Worker::new(0, 0, &SECRET).is_err());
        assert!(Worker::new(0, 2, &SECRET[..31]).is_err());
    }

    #[test]
    fn keys_are_shared_and_differ_from_each_other() {
        let (one, other) = (worker(0, 2), worker(1, 2));
        let stranger = Worker::new(0, 2, &[8; 32]).unwrap();
        assert_eq!(one.ticket_key(5), other.ticket_key(5));
        assert_ne!(one.ticket_key(5), one.ticket_key(6));
        assert_ne!(one.ticket_key(5), stranger.ticket_key(5));
        let reset = |of: &Worker| hmac::sign(&of.reset_key(), b"id").as_ref().to_vec();
        assert_eq!(reset(&one), reset(&other));
        assert_ne!(reset(&one), reset(&stranger));
    }
}
