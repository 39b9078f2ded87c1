//! The native WebTransport endpoint: QUIC and the protocol joined, without Python.
//!
//! [`Endpoint`] is still sans-I/O: packets and time in, packets and notifications out, so that
//! tests run it on a wire in memory. [`Reactor`] adds the socket: one call per wake-up of an event
//! loop, one flush per turn. This crate decides which stream belongs to whom, what is buffered
//! where, and when somebody is told; what bytes mean is decided in the core, how they travel in
//! the QUIC crate.
//!
//! Payload stays inside QUIC until the application reads it, which is what returns credit to the
//! peer. Notifications are edge-triggered: each says once that a call which found nothing would
//! now find something.

#![forbid(unsafe_code)]

mod audience;
mod close;
mod connection;
mod datagram;
mod endpoint;
mod error;
mod events;
#[cfg(unix)]
mod fellows;
mod leaving;
mod notification;
mod pump;
mod reactor;
mod request;
mod session;
mod stream;
mod turn;

pub use audience::Audience;
pub use connection::{Connection, ConnectionOptions, ConnectionStats, Kept};
pub use datagram::{Arrivals, DatagramDrops};
pub use endpoint::{ConnectionKey, Endpoint, ServerSetup};
pub use error::Error;
#[cfg(unix)]
pub use fellows::Fellows;
pub use notification::{Epilogue, Notification};
pub use pywt_core as core;
pub use pywt_quic as quic;
pub(crate) use reactor::Flushed;
pub use reactor::{Reactor, Sending};
pub use stream::{Payload, Read};
pub use turn::{Telling, Wishes};
