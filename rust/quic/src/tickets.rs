//! TLS session tickets that every worker of a server can read.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305, NONCE_LEN};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;

use crate::worker::Worker;

/// Makes a ticket of the number of the period in which it was made, a nonce, and the sealed
/// session. Each period has a key of its own, which every worker derives.
pub(crate) struct SharedTickets {
    worker: Worker,
    random: SystemRandom,
}

impl SharedTickets {
    pub(crate) fn new(worker: &Worker) -> Self {
        Self {
            worker: worker.clone(),
            random: SystemRandom::new(),
        }
    }

    fn key(&self, period: u32) -> Option<LessSafeKey> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.worker.ticket_key(period)).ok()?;
        Some(LessSafeKey::new(key))
    }

    fn seal(&self, period: u32, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = period.to_be_bytes().to_vec();
        ticket.extend_from_slice(&nonce);
        let mut sealed = plain.to_vec();
        self.key(period)?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(period.to_be_bytes()),
                &mut sealed,
            )
            .ok()?;
        ticket.extend_from_slice(&sealed);
        Some(ticket)
    }

    fn open(&self, now: u32, ticket: &[u8]) -> Option<Vec<u8>> {
        let (period, rest) = ticket.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let number = u32::from_be_bytes(*period);
        if now.checked_sub(number)? > 1 {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let plain = self
            .key(number)?
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(*period),
                &mut sealed,
            )
            .ok()?;
        Some(plain.to_vec())
    }
}

impl fmt::Debug for SharedTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedTickets")
    }
}

impl ProducesTickets for SharedTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        PERIOD
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(this_period(), plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(this_period(), ticket)
    }
}

fn this_period() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |time| time.as_secs());
    u32::try_from(seconds / u64::from(PERIOD)).unwrap_or(u32::MAX)
}

/// Seconds for which one key makes tickets; they are taken for as long again.
const PERIOD: u32 = 12 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(index: u8, secret: u8) -> SharedTickets {
        SharedTickets::new(&Worker::new(index, 2, &[secret; 32]).unwrap())
    }

    #[test]
    fn a_ticket_of_one_worker_is_read_by_the_other_for_two_periods() {
        let (one, other) = (tickets(0, 1), tickets(1, 1));
        let ticket = one.seal(100, b"session").unwrap();
        assert_eq!(other.open(100, &ticket).unwrap(), b"session");
        assert_eq!(other.open(101, &ticket).unwrap(), b"session");
        assert_eq!(other.open(102, &ticket), None);
        // One that claims to come from the future.
        assert_eq!(other.open(99, &ticket), None);
        assert_eq!(tickets(1, 2).open(100, &ticket), None);
        let now = one.encrypt(b"session").unwrap();
        assert_eq!(other.decrypt(&now).unwrap(), b"session");
    }

    #[test]
    fn no_two_tickets_are_alike_and_none_survives_a_change() {
        let one = tickets(0, 1);
        let ticket = one.seal(100, b"session").unwrap();
        assert_ne!(ticket, one.seal(100, b"session").unwrap());
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(one.open(100, &changed), None);
            assert_eq!(one.open(100, &ticket[..at]), None);
        }
    }
}
