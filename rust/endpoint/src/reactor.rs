//! The endpoint on its socket: one call per wake-up of an event loop, one flush per turn.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use pywt_quic::{Batch, Socket, Transmit};

use crate::Endpoint;

/// An endpoint and its socket.
pub struct Reactor {
    endpoint: Endpoint,
    socket: Socket,
    buffer: Vec<u8>,
    /// What the socket had no room for.
    unsent: Option<Transmit>,
    erred: bool,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Everything was sent.
    Done,
    /// There is more, but others should have their turn: flush again soon.
    More,
    /// The socket has no room: flush again when it is writable.
    Blocked,
}

impl Reactor {
    /// Joins an endpoint and a socket.
    pub fn new(socket: Socket) -> Self {
        Self {
            endpoint: Endpoint::new(!socket.may_fragment(), Instant::now()),
            socket,
            buffer: Vec::new(),
            unsent: None,
            erred: false,
        }
    }

    /// The connections.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// The socket.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Where the socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.socket.local_address()
    }

    /// Takes what has arrived, up to a bound that keeps the event loop fair; the socket stays
    /// readable when there is more.
    pub fn on_readable(&mut self) {
        let now = Instant::now();
        for batch in 0..MAX_RECEIVE_BATCHES {
            let endpoint = &mut self.endpoint;
            match self.socket.receive(|packet| endpoint.receive(packet)) {
                // Digested batch by batch, so that queues inside QUIC stay small.
                Ok(Batch::Full) => self.endpoint.drive(now),
                Ok(Batch::Last) => break,
                Ok(Batch::Empty) => {
                    if batch == 0 {
                        // Woken for an error that no call has met.
                        self.take_errors(None);
                    }
                    break;
                }
                // An error of the socket is one the network reported for an earlier packet.
                Err(error) => self.take_errors(Some(&error)),
            }
        }
        self.endpoint.drive(now);
    }

    fn take_errors(&mut self, noticed: Option<&io::Error>) {
        self.erred |= noticed.is_some();
        for _ in 0..MAX_ERRORS {
            let Some(unreachable) = self.socket.take_error(noticed) else {
                return;
            };
            self.erred = true;
            if is_unreachable(unreachable.error) {
                self.endpoint
                    .handle_unreachable(unreachable.remote, &unreachable.reason);
            }
        }
    }

    /// Whether the socket has had an error since the last call. Some event loops stop watching a
    /// socket that had one.
    pub fn take_erred(&mut self) -> bool {
        std::mem::take(&mut self.erred)
    }

    /// Takes note of the deadlines that have passed.
    pub fn on_timeout(&mut self) {
        self.endpoint.handle_timeouts(Instant::now());
    }

    /// Sends what is to be sent; with `prompt`, only what should not wait for the application.
    pub fn flush(&mut self, prompt: bool) -> Flushed {
        let now = Instant::now();
        if let Some(transmit) = self.unsent.take() {
            if let Some(blocked) = self.send(transmit) {
                return blocked;
            }
        }
        for _ in 0..MAX_SENDS {
            self.buffer.clear();
            let socket = &self.socket;
            let transmit = self.endpoint.poll_transmit(
                now,
                prompt,
                |mtu| socket.max_segments(mtu),
                &mut self.buffer,
            );
            let Some(transmit) = transmit else {
                return Flushed::Done;
            };
            if let Some(blocked) = self.send(transmit) {
                return blocked;
            }
        }
        Flushed::More
    }

    fn send(&mut self, transmit: Transmit) -> Option<Flushed> {
        for attempt in 0..2 {
            match self.socket.send(&transmit, &self.buffer) {
                Ok(()) => return None,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.unsent = Some(transmit);
                    return Some(Flushed::Blocked);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // The first error may belong to an earlier packet; a second one is this
                    // packet's own. Losing it is what QUIC is made for, but a handshake that
                    // cannot leave this machine is over.
                    self.take_errors(Some(&e));
                    if attempt == 1 && is_unreachable(e.kind()) {
                        self.endpoint
                            .handle_unreachable(transmit.destination, &e.to_string());
                    }
                }
            }
        }
        None
    }
}

fn is_unreachable(error: io::ErrorKind) -> bool {
    matches!(
        error,
        io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied
    )
}

/// Receive calls per wake-up.
const MAX_RECEIVE_BATCHES: usize = 16;
/// GSO batches per flush.
const MAX_SENDS: usize = 128;
/// Errors taken at a time.
const MAX_ERRORS: usize = 64;
