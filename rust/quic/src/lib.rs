//! QUIC for the endpoints above: packets, TLS, loss, congestion, timers and UDP batching.
//!
//! Two halves that do not know each other. [`Endpoint`] and [`Connection`] are sans-I/O: packets,
//! the current time and application calls go in; packets, events and the next deadline come out.
//! [`Socket`] is the UDP socket with segmentation offload in both directions. Whoever drives them
//! joins them, and nothing here knows what the streams carry.
//!
//! The drain contract: after any call on a connection, drain [`Connection::poll`], then
//! [`Endpoint::process`], then [`Connection::poll_transmit`], and re-read
//! [`Connection::poll_timeout`]. Calls may be batched before draining.

#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as pywt_quic;

mod ack_clock;
mod admission;
mod allowance;
mod batches;
mod bbr;
mod certificate;
mod close;
mod config;
mod connection;
mod crypto;
mod endpoint;
mod error;
mod exporter;
mod frames;
mod in_flight;
mod keep_alive;
mod key_log;
mod pacer;
mod packet_keys;
mod qlog;
mod sideband;
mod socket;
mod standalone;
mod stream;
mod tail;
mod tickets;
mod timer;
mod tls;
mod worker;

pub use ack_clock::AckClock;
pub use certificate::{Certificate, CertificateFault, KeyKind};
pub use close::{Close, CloseBy, CloseKind};
pub use config::{Congestion, TransportOptions};
pub use connection::{Connection, DatagramRefused, Event, Stats};
pub use endpoint::{
    ClientOptions, Endpoint, Handle, Handshakes, Packet, Processed, Received, Response, Routed,
    ServerOptions,
};
pub use error::Error;
pub use key_log::FileKeyLog;
pub use qlog::QlogDirectory;
pub use quinn_proto::{Dir, EcnCodepoint, Side, Transmit};
pub use rustls::KeyLog;
pub use socket::{max_segments, Batch, Socket, Unreachable, RECEIVE_BATCH};
pub use standalone::{ConnectError, Misuse, Standalone, StandaloneEvent, MAX_QUEUED_DATAGRAMS};
pub use stream::{ReadState, Reset, Stopped, WriteState};
pub use timer::Deadlines;
pub use tls::{ClientTls, Identity, ServerTls, Verify};
pub use worker::Worker;
