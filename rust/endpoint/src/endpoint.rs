//! Many connections of one socket, without the socket: packets in, notifications and packets out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Instant;

use pywt_core::wire::codes::error::H3_NO_ERROR;
use pywt_quic::{
    ClientOptions, Close, Deadlines, Handshakes, Packet, Processed, Received, ServerOptions,
    ServerTls, Transmit, TransportOptions, Worker,
};

use crate::{Arrivals, Connection, ConnectionOptions, Error, Notification};

/// Names one connection, also after it is gone: a place is used again, a serial is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    slot: usize,
    serial: u64,
}

/// Everything a server needs besides a socket.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// Certificate and client verification.
    pub tls: ServerTls,
    /// QUIC settings of accepted connections.
    pub transport: TransportOptions,
    /// Admission.
    pub options: ServerOptions,
    /// Protocol settings and queues of accepted connections.
    pub connection: ConnectionOptions,
}

/// All connections of one socket.
pub struct Endpoint {
    quic: pywt_quic::Endpoint,
    accepted: Option<Arc<ConnectionOptions>>,
    peers: Vec<Option<Box<Peer>>>,
    next_serial: u64,
    /// Connections that got packets since the last [`Self::drive`].
    touched: Vec<usize>,
    /// Connections that may have packets to send, in turn.
    sending: VecDeque<usize>,
    /// Those of them whose packets should not wait until the application has been told.
    prompt: VecDeque<usize>,
    /// Connections with writers to wake in the next turn.
    in_line: Vec<usize>,
    /// See [`Self::take_arrivals`].
    arrivals: Arrivals,
    /// The connection where there last was a crowd.
    crowded: Option<usize>,
    deadlines: Deadlines,
    notifications: VecDeque<(ConnectionKey, Notification)>,
    /// Lent to the connection that is called, to note its notifications in: thousands that are
    /// idle need no list of their own.
    noted: Vec<Notification>,
    epoch: Instant,
}

struct Peer {
    connection: Connection,
    key: ConnectionKey,
    touched: bool,
    sending: bool,
    in_line: bool,
}

impl Endpoint {
    /// An endpoint without connections. `allow_mtu_discovery` says that its socket never
    /// fragments; a `worker` shares its port and its secrets with others.
    pub fn new(allow_mtu_discovery: bool, worker: Option<Worker>, now: Instant) -> Self {
        Self {
            quic: pywt_quic::Endpoint::new(allow_mtu_discovery, worker),
            accepted: None,
            peers: Vec::new(),
            next_serial: 0,
            touched: Vec::new(),
            sending: VecDeque::new(),
            prompt: VecDeque::new(),
            in_line: Vec::new(),
            arrivals: Arrivals::None,
            crowded: None,
            deadlines: Deadlines::default(),
            notifications: VecDeque::new(),
            noted: Vec::new(),
            epoch: now,
        }
    }

    /// Starts accepting connections.
    pub fn serve(&mut self, setup: ServerSetup) -> Result<(), pywt_quic::Error> {
        self.quic
            .serve(&setup.tls, setup.transport, setup.options)?;
        self.accepted = Some(Arc::new(setup.connection));
        Ok(())
    }

    /// Uses another certificate for connections that start from now on.
    pub fn reload(&mut self, tls: &ServerTls) -> Result<(), pywt_quic::Error> {
        self.quic.reload(tls)
    }

    /// Refuses connections that start from now on.
    pub fn stop_accepting(&mut self) {
        self.quic.stop_accepting();
    }

    /// Starts a connection. `Connected` or `Closed` follows.
    pub fn connect(
        &mut self,
        client: &ClientOptions,
        options: &ConnectionOptions,
        remote: SocketAddr,
        server_name: &str,
        now: Instant,
    ) -> Result<ConnectionKey, pywt_quic::Error> {
        let quic = self.quic.connect(now, client, remote, server_name)?;
        let key = self.insert(quic, Arc::new(options.clone()));
        self.touch(key.slot);
        self.drive(now);
        Ok(key)
    }

    fn insert(
        &mut self,
        quic: pywt_quic::Connection,
        options: Arc<ConnectionOptions>,
    ) -> ConnectionKey {
        let slot = quic.handle();
        let key = ConnectionKey {
            slot,
            serial: self.next_serial,
        };
        self.next_serial += 1;
        if slot >= self.peers.len() {
            self.peers.resize_with(slot + 1, || None);
        }
        if let Some(place) = self.peers.get_mut(slot) {
            *place = Some(Box::new(Peer {
                connection: Connection::new(quic, options, self.epoch),
                key,
                touched: false,
                sending: false,
                in_line: false,
            }));
        }
        key
    }

    /// Whose packet it is when it is another worker's.
    pub fn stranger(&self, packet: &[u8]) -> Option<usize> {
        self.quic.stranger(packet)
    }

    /// Takes one UDP payload. [`Self::drive`] follows after a batch of them.
    pub fn receive(&mut self, packet: Packet) {
        let mut next = Some(packet);
        while let Some(packet) = next.take() {
            match self.quic.receive(packet) {
                Received::Routed(slot, routed) => {
                    let handle = |connection: &mut Connection| connection.quic.handle_event(routed);
                    next = self.guard(slot, handle).flatten();
                    self.touch(slot);
                }
                Received::Opened(quic) => {
                    if let Some(options) = self.accepted.clone() {
                        let key = self.insert(quic, options);
                        self.touch(key.slot);
                    }
                }
                Received::Handled => {}
            }
        }
    }

    /// Digests what the packets since the last call meant.
    pub fn drive(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            if let Some(peer) = self.peer(slot) {
                peer.touched = false;
            }
            let arrivals = self.guard(slot, |connection| {
                connection.drive(now);
                std::mem::take(&mut connection.arrivals)
            });
            let arrivals = arrivals.unwrap_or_default();
            if arrivals == Arrivals::Crowd {
                self.crowded = Some(slot);
            }
            self.arrivals = self.arrivals.max(arrivals);
            self.after(slot);
        }
        self.touched = touched;
    }

    /// What came since the last call, of all connections the most.
    pub fn take_arrivals(&mut self) -> Arrivals {
        std::mem::take(&mut self.arrivals)
    }

    /// Whether the application is at datagrams of which there is a crowd, and has taken some since
    /// this was asked: what came now would push others out.
    pub fn reads_crowd(&mut self) -> bool {
        self.crowded = self.crowded.filter(|&slot| {
            let peer = self.peers.get_mut(slot).and_then(Option::as_mut);
            peer.is_some_and(|peer| peer.connection.reads_crowd())
        });
        self.crowded.is_some()
    }

    /// Whoever was told that a write will be accepted has had time for it: wakes others, where
    /// there is room left.
    pub fn next_turn(&mut self) {
        for slot in std::mem::take(&mut self.in_line) {
            if let Some(peer) = self.peer(slot) {
                peer.in_line = false;
            }
            self.guard(slot, Connection::wake_more_writers);
            self.after(slot);
        }
    }

    /// Whether [`Self::next_turn`] may find something to do.
    pub fn wants_turn(&self) -> bool {
        !self.in_line.is_empty()
    }

    /// Takes note of the deadlines that have passed.
    pub fn handle_timeouts(&mut self, now: Instant) {
        while self.handle_timeout(now) {}
    }

    /// Takes note of one deadline that has passed; false when there is none.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let Some(slot) = self.deadlines.pop_expired(now) else {
            return false;
        };
        self.guard(slot, |connection| connection.handle_timeout(now));
        self.after(slot);
        true
    }

    /// The earliest deadline.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Runs a call of the application on a connection, and takes note of what came of it.
    pub fn with<T>(
        &mut self,
        key: ConnectionKey,
        call: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.peer(key.slot).is_none_or(|peer| peer.key != key) {
            return Err(Error::Closed);
        }
        let Some(result) = self.guard(key.slot, call) else {
            return Err(Error::Internal);
        };
        // Most calls leave nothing to do: a read, a write into a connection that will be sent
        // from anyway.
        if self.peer(key.slot).is_some_and(|peer| {
            (peer.connection.wants_transmit && !peer.sending)
                || !peer.connection.notifications.is_empty()
        }) {
            self.after(key.slot);
        }
        result
    }

    /// A connection, for its facts.
    pub fn connection(&self, key: ConnectionKey) -> Option<&Connection> {
        self.peers
            .get(key.slot)?
            .as_ref()
            .filter(|peer| peer.key == key)
            .map(|peer| &peer.connection)
    }

    /// Refuses new connections and asks the running ones to end; each tells when it has.
    pub fn close_connections(&mut self, code: u64, reason: &str, now: Instant) {
        self.end_connections(|connection| connection.close(code, reason, now));
    }

    /// Refuses new connections and ends the running ones, whatever their peers have seen by now.
    pub fn close_at_once(&mut self, now: Instant) {
        self.end_connections(|connection| connection.close_now(H3_NO_ERROR, String::new(), now));
    }

    fn end_connections(&mut self, mut end: impl FnMut(&mut Connection)) {
        self.stop_accepting();
        for slot in 0..self.peers.len() {
            self.guard(slot, |connection| {
                if !connection.is_closed() {
                    end(connection);
                }
            });
            self.after(slot);
        }
    }

    /// Connections whose state is still kept, closed ones in their draining period included.
    pub fn connections(&self) -> usize {
        self.quic.connections()
    }

    /// What became of clients that began.
    pub fn handshakes(&self) -> Handshakes {
        self.quic.handshakes()
    }

    /// The next thing the application should know. Tell it before anything else is called.
    pub fn poll_notification(&mut self) -> Option<(ConnectionKey, Notification)> {
        let (key, notification) = self.notifications.pop_front()?;
        if matches!(
            notification,
            Notification::RequestAborted { .. }
                | Notification::RequestTrailers { .. }
                | Notification::StreamReset { .. }
                | Notification::StreamStopped { .. }
        ) && self.peer(key.slot).is_some_and(|peer| peer.key == key)
        {
            self.guard(key.slot, |connection| connection.told(&notification));
            self.after(key.slot);
        }
        Some((key, notification))
    }

    /// How many things the application should know.
    pub fn notifications(&self) -> usize {
        self.notifications.len()
    }

    /// Whether packets may be waiting to be sent.
    pub fn wants_transmit(&self) -> bool {
        self.wants_prompt_transmit() || !self.sending.is_empty()
    }

    /// Whether packets may be waiting that should go before the application is told anything: the
    /// peer waits for them, and the application will have nothing to add to them.
    pub fn wants_prompt_transmit(&self) -> bool {
        !self.prompt.is_empty() || self.quic.has_responses()
    }

    /// Writes the next packets into the empty `buffer`: one GSO batch of one connection, and the
    /// next connection's turn comes after it. `max_segments` says how many packets of a given
    /// MTU the socket takes at once. With `prompt`, only what should not wait.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        prompt: bool,
        max_segments: impl Fn(u16) -> usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Some(response) = self.quic.poll_response() {
            buffer.extend_from_slice(&response.data);
            return Some(response.transmit);
        }
        loop {
            let slot = match self.prompt.pop_front() {
                Some(slot) => slot,
                None if prompt => return None,
                None => self.sending.pop_front()?,
            };
            let transmit = self.guard(slot, |connection| {
                connection.poll_transmit(now, &max_segments, buffer)
            });
            match transmit {
                Some(Some(transmit)) => {
                    // Prompt or not, it waits for the others before it sends more.
                    self.sending.push_back(slot);
                    return Some(transmit);
                }
                _ => {
                    buffer.clear();
                    if let Some(peer) = self.peer(slot) {
                        peer.sending = false;
                        peer.connection.wants_transmit = false;
                    }
                    self.after(slot);
                }
            }
        }
    }

    /// The network says that packets to `remote` do not arrive. ICMP is easily forged, so it only
    /// ends handshakes of ours.
    pub fn handle_unreachable(&mut self, remote: SocketAddr, reason: &str) {
        if !self.quic.is_connecting() {
            return;
        }
        let slots: Vec<usize> = self
            .peers
            .iter()
            .flatten()
            .filter(|peer| {
                let quic = &peer.connection.quic;
                quic.is_handshaking()
                    && !peer.connection.is_closed()
                    && quic.side() == pywt_quic::Side::Client
                    && quic.remote_address() == remote
            })
            .map(|peer| peer.key.slot)
            .collect();
        for slot in slots {
            self.guard(slot, |connection| {
                connection.end(None, Close::unreachable(reason));
            });
            self.abandon(slot);
        }
    }

    fn peer(&mut self, slot: usize) -> Option<&mut Peer> {
        self.peers.get_mut(slot)?.as_deref_mut()
    }

    fn touch(&mut self, slot: usize) {
        if let Some(peer) = self.peer(slot) {
            if !std::mem::replace(&mut peer.touched, true) {
                self.touched.push(slot);
            }
        }
    }

    /// Runs `call` on a connection. A panic is our defect, never the peer's gain: it ends that
    /// one connection and nothing else.
    fn guard<T>(&mut self, slot: usize, call: impl FnOnce(&mut Connection) -> T) -> Option<T> {
        let connection = &mut self.peers.get_mut(slot)?.as_deref_mut()?.connection;
        let is_lent = connection.notifications.is_empty();
        if is_lent {
            std::mem::swap(&mut connection.notifications, &mut self.noted);
        }
        let result = catch_unwind(AssertUnwindSafe(|| call(connection)));
        if is_lent && connection.notifications.is_empty() {
            std::mem::swap(&mut connection.notifications, &mut self.noted);
        }
        if result.is_err() {
            self.fail(slot);
        }
        result.ok()
    }

    /// Ends a connection whose state cannot be trusted. The peer learns of it by a stateless
    /// reset when it sends again.
    fn fail(&mut self, slot: usize) {
        let Some(peer) = self.peer(slot) else {
            return;
        };
        if !peer.connection.is_closed() {
            let key = peer.key;
            let sessions: Vec<u64> = peer.connection.sessions.keys().copied().collect();
            let told = std::mem::take(&mut peer.connection.notifications);
            self.notifications
                .extend(told.into_iter().map(|notification| (key, notification)));
            for session in sessions {
                self.notifications.push_back((
                    key,
                    Notification::SessionClosed {
                        session,
                        code: 0,
                        reason: String::new(),
                        by: pywt_core::ClosedBy::Transport,
                        error: None,
                    },
                ));
            }
            let close = Close::internal("internal error, please report this");
            self.notifications
                .push_back((key, Notification::Closed(close, None)));
        }
        self.abandon(slot);
    }

    /// Forgets a connection without its consent.
    fn abandon(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::take) else {
            return;
        };
        let Peer {
            mut connection,
            key,
            ..
        } = *peer;
        self.notifications.extend(
            connection
                .notifications
                .drain(..)
                .map(|notification| (key, notification)),
        );
        self.quic.abandon(&mut connection.quic);
        self.deadlines.set(slot, None);
    }

    /// Takes a connection's notifications, wishes and deadline after anything was done with it.
    fn after(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot).and_then(Option::as_deref_mut) else {
            return;
        };
        let key = peer.key;
        let is_client = peer.connection.quic.side() == pywt_quic::Side::Client;
        let is_prompt = peer.connection.notifications.iter().all(|told| match told {
            Notification::Connected => is_client,
            Notification::SessionClosed { .. } => true,
            _ => false,
        });
        if !peer.connection.notifications.is_empty() {
            self.noted = std::mem::take(&mut peer.connection.notifications);
            self.notifications
                .extend(self.noted.drain(..).map(|notification| (key, notification)));
        }
        if !peer.connection.sessions_in_line.is_empty()
            && !std::mem::replace(&mut peer.in_line, true)
        {
            self.in_line.push(slot);
        }
        if peer.connection.wants_transmit && !std::mem::replace(&mut peer.sending, true) {
            if is_prompt {
                self.prompt.push_back(slot);
            } else {
                self.sending.push_back(slot);
            }
        }
        if peer.sending {
            // Its deadline is read after it has sent.
            return;
        }
        match self.quic.process(&mut peer.connection.quic) {
            Processed::Kept => {}
            Processed::Drained => {
                self.peers[slot] = None;
                self.deadlines.set(slot, None);
                return;
            }
            Processed::Refused => peer.connection.refuse(),
        }
        let deadline = peer.connection.poll_timeout();
        self.deadlines.set(slot, deadline);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_panic_ends_one_connection_and_nothing_else() {
        let now = Instant::now();
        let mut endpoint = Endpoint::new(true, None, now);
        let tls = pywt_quic::ClientTls {
            verify: pywt_quic::Verify::None,
            ..pywt_quic::ClientTls::default()
        };
        let client = ClientOptions::new(&tls, TransportOptions::default()).unwrap();
        let core = Arc::new(pywt_core::Config::client());
        let options = ConnectionOptions::new(core);
        let connect = |endpoint: &mut Endpoint| {
            endpoint
                .connect(&client, &options, "127.0.0.1:1".parse().unwrap(), "a", now)
                .unwrap()
        };
        let healthy = connect(&mut endpoint);
        let broken = connect(&mut endpoint);
        let result: Result<(), Error> = endpoint.with(broken, |_| panic!("a defect"));
        assert_eq!(result, Err(Error::Internal));
        assert!(matches!(
            endpoint.poll_notification(),
            Some((key, Notification::Closed(close, _))) if key == broken && close.code == 1
        ));
        assert_eq!(endpoint.poll_notification(), None);
        assert!(endpoint.connection(broken).is_none());
        assert!(endpoint.connection(healthy).is_some());
        assert_eq!(endpoint.connections(), 1);
        assert_eq!(endpoint.with(broken, |_| Ok(())), Err(Error::Closed));
        // Its place is used again, under another name.
        let next = connect(&mut endpoint);
        assert_eq!(next.slot, broken.slot);
        assert!(endpoint.connection(broken).is_none());
        assert_eq!(endpoint.with(healthy, |_| Ok(())), Ok(()));
    }
}
