//! The endpoint on its socket: one call per wake-up of an event loop, one flush per turn.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pywt_quic::{Batch, Packet, Socket, Transmit, Worker, RECEIVE_BATCH};

use crate::turn::{Facts, Turn, TURN_BUDGET};
#[cfg(unix)]
use crate::Fellows;
use crate::{Arrivals, Connection, ConnectionKey, Endpoint, Error, Notification, Telling, Wishes};

/// An endpoint, its socket, and its place in an event loop.
///
/// The event loop calls [`Self::on_readable`], [`Self::on_timer`] and [`Self::on_flush`]. After each
/// of them somebody tells the application what it should know ([`Self::begin_telling`]), and after
/// every call at all the event loop is asked for what [`Self::wishes`] says.
pub struct Reactor {
    endpoint: Endpoint,
    socket: Socket,
    #[cfg(unix)]
    fellows: Option<Fellows>,
    buffer: Vec<u8>,
    /// How much to take from the socket at a time, in units of [`Socket::receive_up_to`].
    appetite: usize,
    /// When something last was taken from it.
    received_at: Instant,
    /// What the socket had no room for.
    unsent: Option<Transmit>,
    erred: bool,
    turn: Turn,
}

/// When the packets that a call brings about leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// At the end of the turn.
    Later,
    /// The call completes what the peer is to have: at once if it is the first of a turn.
    Message,
    /// The peer waits for it: at once.
    Now,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
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
        Self::with_worker(socket, None)
    }

    /// One of several processes on one port; `fellows` are the others.
    #[cfg(unix)]
    pub fn for_worker(socket: Socket, worker: Worker, fellows: Fellows) -> Self {
        Self {
            fellows: Some(fellows),
            ..Self::with_worker(socket, Some(worker))
        }
    }

    fn with_worker(socket: Socket, worker: Option<Worker>) -> Self {
        Self {
            endpoint: Endpoint::new(!socket.may_fragment(), worker, Instant::now()),
            socket,
            #[cfg(unix)]
            fellows: None,
            buffer: Vec::new(),
            appetite: RECEIVE_BATCH,
            received_at: Instant::now(),
            unsent: None,
            erred: false,
            turn: Turn::default(),
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

    /// The socket is readable: takes what has arrived, for about half of the turn's budget; the
    /// socket stays readable when there is more, also when an application should read datagrams
    /// first. Sends at once when nobody has to be told.
    pub fn on_readable(&mut self) {
        let now = Instant::now();
        if self.turn.begin(now) && !self.gives_way(now) {
            self.receive(now);
        }
        self.send_unless_told();
    }

    /// Whether whoever reads a crowd of datagrams should come first. Everybody else waits as well,
    /// so not for long.
    fn gives_way(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.received_at) < WAY_GIVEN && self.endpoint.reads_crowd()
    }

    fn receive(&mut self, started: Instant) {
        let mut now = started;
        self.received_at = started;
        let mut is_first = true;
        while is_first || now.saturating_duration_since(started) < RECEIVING_BUDGET {
            let endpoint = &mut self.endpoint;
            #[cfg(unix)]
            let fellows = &mut self.fellows;
            let deliver = |packet: Packet| {
                #[cfg(unix)]
                if let Some(fellows) = fellows {
                    if let Some(place) = endpoint.stranger(&packet.data) {
                        fellows.hand_on(place, &packet);
                        return;
                    }
                }
                endpoint.receive(packet);
            };
            let batch = self.socket.receive_up_to(self.appetite, deliver);
            // Digested batch by batch, so that queues inside QUIC stay small.
            self.endpoint.drive(now);
            match self.endpoint.take_arrivals() {
                Arrivals::None => self.appetite = (2 * self.appetite).min(RECEIVE_BATCH),
                Arrivals::Some => self.appetite = (2 * self.appetite).min(DATAGRAM_BATCH),
                Arrivals::Crowd => {
                    self.appetite = 1;
                    break;
                }
            }
            match batch {
                Ok(Batch::Full) => {}
                Ok(Batch::Last) => break,
                Ok(Batch::Empty) => {
                    if is_first {
                        // Woken for an error that no call has met.
                        self.take_errors(None);
                    }
                    break;
                }
                // An error of the socket is one the network reported for an earlier packet.
                Err(error) => self.take_errors(Some(&error)),
            }
            is_first = false;
            now = Instant::now();
        }
    }

    /// Another worker has handed something on.
    #[cfg(unix)]
    pub fn on_handed_on(&mut self) {
        let now = Instant::now();
        if self.turn.begin(now) {
            let endpoint = &mut self.endpoint;
            if let Some(fellows) = &mut self.fellows {
                fellows.receive(|packet| endpoint.receive(packet));
            }
            self.endpoint.drive(now);
        }
        self.send_unless_told();
    }

    /// The other workers, for an event loop to watch the inbox.
    #[cfg(unix)]
    pub fn fellows(&self) -> Option<&Fellows> {
        self.fellows.as_ref()
    }

    /// The timer that was wished for has fired: takes note of the deadlines that have passed.
    pub fn on_timer(&mut self) {
        let now = Instant::now();
        self.turn.begin(now);
        self.turn.timer_fired();
        while self.endpoint.handle_timeout(now) && now.elapsed() < TURN_BUDGET {}
        self.send_unless_told();
    }

    /// The flush that was wished for has come. When the application has been told what it should
    /// know, [`Self::transmit`] follows.
    pub fn on_flush(&mut self) {
        self.turn.begin(Instant::now());
        self.turn.flush_came();
        self.endpoint.next_turn();
    }

    fn send_unless_told(&mut self) {
        if self.endpoint.notifications() == 0 {
            self.transmit();
        }
    }

    /// Begins to tell the application; `None` when there is nothing to tell, or somebody tells
    /// already. Sends before that what has waited for nothing else.
    pub fn begin_telling(&mut self) -> Option<Telling> {
        let notifications = self.endpoint.notifications();
        let telling = self.turn.begin_telling(notifications, Instant::now())?;
        if self.endpoint.wants_prompt_transmit() {
            let flushed = self.flush(true);
            self.turn.sent(flushed);
        }
        Some(telling)
    }

    /// The next thing to tell in this turn. Between two calls anything else may be called.
    pub fn tell(&mut self, telling: &mut Telling) -> Option<(ConnectionKey, Notification)> {
        if !self.turn.may_tell(telling, Instant::now) {
            return None;
        }
        let told = self.endpoint.poll_notification()?;
        Turn::tells(telling, &told.1);
        Some(told)
    }

    /// Whoever told has come to the end of it, or has failed.
    pub fn end_telling(&mut self) {
        self.turn.end_telling();
    }

    /// Runs a call of the application on a connection.
    pub fn call<T>(
        &mut self,
        key: ConnectionKey,
        sending: Sending,
        call: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = self.endpoint.with(key, call);
        let is_now = match sending {
            Sending::Later => false,
            Sending::Message => self.turn.may_send_at_once(),
            Sending::Now => true,
        };
        if is_now {
            self.transmit();
        }
        result
    }

    /// Sends what is to be sent, as far as budget and socket allow.
    pub fn transmit(&mut self) {
        let flushed = self.flush(false);
        self.turn.sent(flushed);
    }

    /// What to ask of the event loop now.
    pub fn wishes(&mut self) -> Wishes {
        if self.turn.is_content() && !self.erred {
            return Wishes::default();
        }
        let facts = Facts {
            erred: std::mem::take(&mut self.erred),
            notifications: self.endpoint.notifications(),
            wants_turn: self.endpoint.wants_turn(),
            wants_transmit: self.endpoint.wants_transmit(),
            deadline: self.endpoint.next_timeout(),
        };
        self.turn.wishes(&facts, Instant::now)
    }

    /// Ends every connection at once, tells the peers as far as the socket has room, and takes no
    /// new ones. Afterwards the application is to be told, with [`Endpoint::poll_notification`].
    pub fn close(&mut self) {
        self.endpoint.close_at_once(Instant::now());
        while self.flush(false) == Flushed::More {}
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

    /// Sends what is to be sent; with `prompt`, only what should not wait for the application.
    fn flush(&mut self, prompt: bool) -> Flushed {
        let now = Instant::now();
        let until = self.turn.may_send_until(now);
        if let Some(transmit) = self.unsent.take() {
            if let Some(blocked) = self.send(transmit) {
                return blocked;
            }
        }
        loop {
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
            if Instant::now() >= until {
                return Flushed::More;
            }
        }
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

/// The part of [`TURN_BUDGET`] for packets; what is left of it is for the application.
const RECEIVING_BUDGET: Duration = Duration::from_micros(500);
/// What the socket may bring at once where datagrams come: about as many small ones as there is
/// room for by default in a session's queue that is not crowded.
const DATAGRAM_BATCH: usize = 3;
/// What those who read a crowd of datagrams have for it, and others wait for.
const WAY_GIVEN: Duration = Duration::from_millis(2);
/// Errors taken at a time.
const MAX_ERRORS: usize = 64;
