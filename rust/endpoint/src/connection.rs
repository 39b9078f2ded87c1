//! One connection: QUIC and the protocol joined, driven by packets, time and the application.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pywt_core::{Action, Dir, SessionId, StreamId, Transport};
use pywt_quic::{CloseBy, CloseKind, Event, Side, Transmit};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::close::Phase;
use crate::datagram::{Arrivals, DatagramDrops, DatagramLimits, Outbox, Share};
use crate::leaving::Left;
use crate::session::Session;
use crate::stream::{Owner, Stream};
use crate::{Error, Notification};

/// What the endpoint keeps for a connection at most, and how long it lingers.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Protocol settings.
    pub core: Arc<pywt_core::Config>,
    /// Received datagrams kept per session.
    pub incoming_datagram_count: usize,
    /// Bytes of those.
    pub incoming_datagram_bytes: usize,
    /// Outgoing datagrams kept per session, beyond what QUIC holds.
    pub outgoing_datagram_count: usize,
    /// Bytes of those.
    pub outgoing_datagram_bytes: usize,
    /// How long after the peer's last FIN a server keeps a connection: for another request, or,
    /// asked to close, for the peer's application to be told how its sessions ended. Browsers send
    /// that FIN before the page knows, and a CONNECTION_CLOSE close behind takes code and reason
    /// from it. They also forget the connection without a word. As long waits a close for that FIN
    /// once the peer has acknowledged ours: some never send one.
    pub linger: Duration,
    /// As `linger`, for a server's connection that has carried ordinary requests.
    pub request_linger: Duration,
    /// How long a close waits at most for the peer to have read the end of its sessions.
    pub close_timeout: Duration,
    /// Server: how long a handshake may take.
    pub handshake_timeout: Duration,
    /// Server: how long a client may stay connected before it has asked for a session.
    pub first_session_timeout: Duration,
}

impl ConnectionOptions {
    /// Defaults for a protocol configuration.
    pub fn new(core: impl Into<Arc<pywt_core::Config>>) -> Self {
        Self {
            core: core.into(),
            incoming_datagram_count: 4096,
            incoming_datagram_bytes: 4 * 1024 * 1024,
            outgoing_datagram_count: 4096,
            outgoing_datagram_bytes: 4 * 1024 * 1024,
            linger: Duration::from_secs(1),
            request_linger: Duration::from_secs(60),
            close_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(10),
            first_session_timeout: Duration::from_secs(10),
        }
    }

    pub(crate) fn incoming_datagrams(&self) -> DatagramLimits {
        DatagramLimits {
            count: self.incoming_datagram_count,
            bytes: self.incoming_datagram_bytes,
        }
    }

    pub(crate) fn outgoing_datagrams(&self) -> DatagramLimits {
        DatagramLimits {
            count: self.outgoing_datagram_count,
            bytes: self.outgoing_datagram_bytes,
        }
    }
}

/// Counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// QUIC.
    pub quic: pywt_quic::Stats,
    /// The protocol.
    pub core: pywt_core::Stats,
    /// Datagrams dropped here, by place.
    pub datagrams: DatagramDrops,
    /// Datagrams that wait to leave, here and in QUIC.
    pub datagrams_waiting: u64,
}

impl ConnectionStats {
    /// Datagrams of the application that never left.
    pub fn datagrams_dropped_outgoing(&self) -> u64 {
        let DatagramDrops {
            send_queue,
            unsendable,
            ..
        } = self.datagrams;
        send_queue + unsendable + self.quic.datagrams_too_large
    }

    /// Datagrams that came, for a session, and that the application did not get.
    pub fn datagrams_dropped_incoming(&self) -> u64 {
        self.datagrams.receive_queue + self.datagrams.ended + self.quic.datagrams_overflown
    }
}

/// How many things a connection keeps for the application and its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Streams of sessions, or not known to be of one.
    pub streams: usize,
    /// Sessions that have not ended.
    pub sessions: usize,
    /// Ended sessions with something left to read.
    pub left: usize,
    /// Datagrams to send.
    pub outgoing_datagrams: usize,
}

/// One connection of an [`crate::Endpoint`].
pub struct Connection {
    pub(crate) quic: pywt_quic::Connection,
    pub(crate) core: pywt_core::Connection,
    pub(crate) streams: FxHashMap<StreamId, Stream>,
    /// Boxed, because the table has free places.
    pub(crate) sessions: FxHashMap<SessionId, Box<Session>>,
    /// Of ended sessions that the application has not been told of.
    pub(crate) left: FxHashMap<SessionId, Left>,
    /// Sessions with more writers than credit.
    pub(crate) sessions_in_line: Vec<SessionId>,
    pub(crate) outbox: Outbox,
    pub(crate) share: Share,
    /// Lent by the endpoint while the connection is called.
    pub(crate) notifications: Vec<Notification>,
    pub(crate) options: Arc<ConnectionOptions>,
    pub(crate) drops: DatagramDrops,
    /// What came since the endpoint last looked.
    pub(crate) arrivals: Arrivals,
    /// A session to which a crowd of datagrams came.
    pub(crate) crowded: Option<SessionId>,
    /// A packet may be worth sending.
    pub(crate) wants_transmit: bool,
    /// Most bytes of the core that waited for credit of the peer on one stream, since the core was
    /// told.
    pub(crate) most_unsent: usize,
    pub(crate) phase: Phase,
    control_open: bool,
    pub(crate) had_session: bool,
    /// An ordinary request was shown.
    pub(crate) had_request: bool,
    /// Streams of complete responses that the client has not acknowledged.
    pub(crate) unacknowledged: FxHashSet<StreamId>,
    pub(crate) linger_until: Option<Instant>,
    /// Server: when the client must have completed the handshake, then asked for a session.
    pub(crate) patience_until: Option<Instant>,
    /// Server: there is no place for it.
    pub(crate) is_refused: bool,
    /// When the next PING of the beginning may be due.
    probe_at: Option<Instant>,
    /// The session that ended last was closed by this end.
    pub(crate) closed_first: bool,
    closed_by_peer: bool,
    /// No packet leaves before that.
    pub(crate) silent_until: Option<Instant>,
    pub(crate) epoch: Instant,
}

impl Connection {
    pub(crate) fn new(
        quic: pywt_quic::Connection,
        options: Arc<ConnectionOptions>,
        epoch: Instant,
    ) -> Self {
        Self {
            quic,
            core: pywt_core::Connection::new(options.core.clone()),
            streams: FxHashMap::default(),
            sessions: FxHashMap::default(),
            left: FxHashMap::default(),
            sessions_in_line: Vec::new(),
            outbox: Outbox::default(),
            share: Share::default(),
            notifications: Vec::new(),
            options,
            drops: DatagramDrops::default(),
            arrivals: Arrivals::None,
            crowded: None,
            wants_transmit: true,
            most_unsent: 0,
            phase: Phase::Connecting,
            control_open: false,
            had_session: false,
            had_request: false,
            unacknowledged: FxHashSet::default(),
            linger_until: None,
            patience_until: None,
            is_refused: false,
            probe_at: None,
            closed_first: false,
            closed_by_peer: false,
            silent_until: None,
            epoch,
        }
    }

    /// The QUIC connection, for its facts.
    pub fn quic(&self) -> &pywt_quic::Connection {
        &self.quic
    }

    /// The protocol, for its facts.
    pub fn core(&self) -> &pywt_core::Connection {
        &self.core
    }

    /// Counters.
    pub fn stats(&self) -> ConnectionStats {
        let quic = self.quic.stats();
        ConnectionStats {
            quic,
            core: self.core.stats(),
            datagrams: self.drops,
            datagrams_waiting: quic.datagrams_waiting + self.outbox.len(&self.sessions) as u64,
        }
    }

    /// How many things of each kind are kept: for tests of what is forgotten.
    pub fn kept(&self) -> Kept {
        Kept {
            streams: self
                .streams
                .values()
                .filter(|stream| stream.owner != Owner::Core)
                .count(),
            sessions: self.sessions.len(),
            left: self.left.len(),
            outgoing_datagrams: self.outbox.len(&self.sessions),
        }
    }

    /// Whether the application has been told that the connection is gone.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Digests what QUIC has to say, until there is nothing more.
    pub(crate) fn drive(&mut self, now: Instant) {
        self.wants_transmit = true;
        if matches!(self.phase, Phase::Connecting) {
            self.probe_at.get_or_insert(now + PROBE_INTERVAL);
            if self.quic.side() == Side::Server {
                self.open_control(now);
                let timeout = self.options.handshake_timeout;
                self.patience_until.get_or_insert(now + timeout);
            }
        }
        loop {
            let mut idle = true;
            while let Some(event) = self.quic.poll() {
                idle = false;
                self.on_event(event, now);
            }
            if !self.settle(now) && idle {
                break;
            }
        }
        self.proceed_with_close(now);
    }

    /// Writes the next packets of this connection into the empty `buffer`.
    pub(crate) fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: impl Fn(u16) -> usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        // RFC 9000 §10.2.2: a peer that has closed needs no answer.
        if self.closed_by_peer || self.silent_until.is_some_and(|at| at > now) {
            return None;
        }
        let segments = max_segments(self.quic.mtu());
        self.transmit_shared(now, segments, buffer)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.silent_until = self.silent_until.filter(|at| *at > now);
        self.probe(now);
        self.quic.handle_timeout(now);
        let time = self.time(now);
        if self.core.poll_timeout().is_some_and(|at| at <= time) {
            self.core.handle_timeout(time);
        }
        self.drive(now);
    }

    /// A beginning that was lost costs the most: QUIC's timeouts double, from round trips that were
    /// measured while packets were missing, and until the handshake is confirmed a client has none
    /// for its SETTINGS (RFC 9002 §6.2.1). What arrives in answer to a PING tells QUIC what was
    /// lost before it, and lets a server send more whose client it does not know yet (RFC 9000
    /// §8.1). So there are PINGs until the first session has been answered, while something of ours
    /// or the peer's SETTINGS may be on the way.
    fn probe(&mut self, now: Instant) {
        if self.probe_at.is_none_or(|at| at > now) {
            return;
        }
        let is_server = self.quic.side() == Side::Server;
        let is_settled = self.core.peer_settings().is_some();
        let stats = self.quic.stats();
        let is_sending = stats.bytes_in_flight > 0;
        // Before the handshake's end a server has no PING that a client could read; and a server
        // may refuse a connection that begins with one, as aioquic does.
        let is_known = match self.phase {
            Phase::Connecting => !is_server && stats.tls_received > 0,
            _ => true,
        };
        if is_known && (is_sending || !is_settled) {
            self.quic.ping();
        }
        let is_asked = self.had_session || self.had_request || !is_server;
        let is_answered = self.sessions.is_empty() || self.core.stats().sessions_established > 0;
        let is_over = is_settled && !is_sending && is_asked && is_answered;
        self.probe_at = (!is_over && !self.is_closed()).then(|| now + PROBE_INTERVAL);
    }

    pub(crate) fn poll_timeout(&mut self) -> Option<Instant> {
        let (linger, patience) = match &self.phase {
            Phase::Closing { deadline, .. } => (Some(*deadline), None),
            Phase::Closed => return self.quic.poll_timeout(),
            _ => (self.linger_until, self.patience_until),
        };
        let core = self
            .core
            .poll_timeout()
            .and_then(|at| self.epoch.checked_add(at));
        let quic = self.quic.poll_timeout();
        [
            quic,
            core,
            linger,
            patience,
            self.silent_until,
            self.probe_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Connected => {
                self.phase = Phase::Open;
                self.open_control(now);
                let time = self.time(now);
                self.core.handle_handshake_complete(time);
                if self.quic.side() == Side::Server && !self.had_session && !self.had_request {
                    self.patience_until = Some(now + self.options.first_session_timeout);
                }
                self.notifications.push(Notification::Connected);
                self.open_early_session();
            }
            Event::Closed(close) => {
                self.closed_by_peer = close.by == CloseBy::Remote;
                let code = (close.kind == CloseKind::Application).then_some(close.code);
                self.end(code, close);
            }
            Event::StreamsOpened(dir) => {
                while let Some(id) = self.quic.accept(dir) {
                    self.streams
                        .insert(id, Stream::accepted(dir == pywt_quic::Dir::Bi));
                    self.pump(id, now);
                }
            }
            Event::StreamsAvailable(dir) => {
                if dir == pywt_quic::Dir::Uni {
                    self.open_control(now);
                }
                let dir = core_dir(dir);
                for (id, session) in &mut self.sessions {
                    if std::mem::take(&mut session.stream_wanted[dir as usize]) {
                        self.notifications
                            .push(Notification::StreamsAvailable { session: *id, dir });
                    }
                }
            }
            Event::Readable(id) => self.on_readable(id, now),
            Event::Writable(id) => self.on_writable(id),
            Event::Finished(id) => {
                self.unacknowledged.remove(&id);
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.delivered = true;
                }
            }
            Event::StoppedStreamEnded { id, final_size } => self.stopped_ended(id, final_size),
            Event::Stopped { id, code } => {
                self.unacknowledged.remove(&id);
                let time = self.time(now);
                self.core.handle_stop_sending(id, code, time);
            }
            Event::DatagramsReceived => {
                let time = self.time(now);
                while let Some(data) = self.quic.receive_datagram() {
                    self.core.handle_datagram(data, time);
                    self.take_events();
                }
            }
            Event::DatagramsUnblocked => {}
        }
    }

    /// Opens our control stream, which tells the peer our SETTINGS. A server does so before the
    /// handshake is complete: that saves its clients a round trip (RFC 9114 §7.2.4.2).
    pub(crate) fn open_control(&mut self, now: Instant) {
        if self.control_open {
            return;
        }
        let Some(id) = self.quic.open(pywt_quic::Dir::Uni) else {
            return;
        };
        self.control_open = true;
        self.streams.insert(id, Stream::internal(false, true));
        let transport = Transport {
            max_datagram_frame_size: self
                .quic
                .max_datagram_size()
                .map_or(0, |size| size as u64 + 1),
            local_max_datagram_frame_size: MAX_DATAGRAM_FRAME_SIZE,
            reset_stream_at: self.quic.peer_takes_reset_stream_at(),
            local_reset_stream_at: true,
            is_handshaking: matches!(self.phase, Phase::Connecting),
            early_settings: None,
        };
        let time = self.time(now);
        self.core.handle_connected(id, transport, time);
        self.settle(now);
    }

    /// Carries out what the core wants and takes its events; false when there was nothing.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let mut worked = false;
        loop {
            while let Some(action) = self.core.poll_action() {
                worked = true;
                self.wants_transmit = true;
                match action {
                    Action::SendStream { id, data, fin } => self.send_internal(id, data, fin),
                    Action::ResetStream {
                        id,
                        code,
                        reliable_size,
                    } => self.reset_in_quic(id, code, reliable_size),
                    Action::StopSending { id, code } => self.stop_in_quic(id, code),
                    Action::CloseConnection { code, reason } => {
                        self.close_now(code, reason, now);
                        return true;
                    }
                }
            }
            worked |= self.take_events();
            match std::mem::take(&mut self.most_unsent) {
                0 => return worked,
                bytes => self.core.handle_unsent(bytes),
            }
        }
    }

    /// Fills `output` with TLS keying material of a session; false when TLS cannot fill that much.
    pub fn export_keying_material(
        &self,
        session: SessionId,
        label: &[u8],
        context: &[u8],
        output: &mut [u8],
    ) -> Result<bool, Error> {
        let (label, context) = self.core.exporter(session, label, context)?;
        Ok(self
            .quic
            .export_keying_material(output, label.as_bytes(), &context))
    }

    pub(crate) fn time(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }
}

pub(crate) fn quic_dir(dir: Dir) -> pywt_quic::Dir {
    match dir {
        Dir::Bidi => pywt_quic::Dir::Bi,
        Dir::Uni => pywt_quic::Dir::Uni,
    }
}

fn core_dir(dir: pywt_quic::Dir) -> Dir {
    match dir {
        pywt_quic::Dir::Bi => Dir::Bidi,
        pywt_quic::Dir::Uni => Dir::Uni,
    }
}

/// Between PINGs that help a beginning along; longer than most round trips.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// What quinn announces (RFC 9221 §3).
const MAX_DATAGRAM_FRAME_SIZE: u64 = 65_535;
