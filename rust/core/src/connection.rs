//! The connection: public surface. (Skeleton: signatures are final, bodies follow.)
#![allow(unused_variables, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pywt_wire::settings::Settings;

use crate::config::{Config, Dir, Request, Response, Transport};
use crate::dialect::Dialect;
use crate::error::{Error, OpenError};
use crate::event::{Action, Event, Stats};
use crate::{SessionId, StreamId, Time};

/// What this crate knows about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// No entry: never seen, or ended.
    Unknown,
    /// The header has not arrived completely.
    Pending,
    /// Control, QPACK, CONNECT and discarded streams: push every byte here.
    Internal,
    /// A WebTransport stream whose session is not established.
    Held,
    /// A WebTransport stream of this session.
    Session(SessionId),
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Client: the request waits for the peer's SETTINGS.
    Queued,
    /// Client: the request was sent. Server: the request waits for the client's SETTINGS, or for
    /// `accept` or `reject`.
    Connecting,
    /// Established.
    Open,
}

/// One session, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    pub state: SessionState,
    /// The peer sent DRAIN or GOAWAY.
    pub draining: bool,
    /// Session flow control is on.
    pub flow_control: bool,
    /// Live WebTransport streams.
    pub streams: usize,
}

pub struct Connection { config: Arc<Config> }

impl Connection {
    /// `config`: a `Config` or an `Arc<Config>`.
    pub fn new(config: impl Into<Arc<Config>>) -> Self { Self { config: config.into() } }

    // ---- from QUIC
    pub fn handle_connected(&mut self, control_stream: StreamId, transport: Transport, now: Time) {}
    pub fn handle_stream_data(&mut self, id: StreamId, data: Bytes, fin: bool, now: Time) {}
    pub fn handle_stream_bytes(&mut self, id: StreamId, len: u64, fin: bool, now: Time) {}
    /// `final_size`: of the whole QUIC stream, header included, where QUIC tells.
    pub fn handle_stream_reset(&mut self, id: StreamId, code: u64, final_size: Option<u64>, now: Time) {}
    pub fn handle_stop_sending(&mut self, id: StreamId, code: u64, now: Time) {}
    pub fn handle_datagram(&mut self, data: Bytes, now: Time) {}
    pub fn handle_timeout(&mut self, now: Time) {}
    /// `code`: the application code of the peer's CONNECTION_CLOSE; None for idle timeout, transport errors, local close.
    pub fn handle_closed(&mut self, code: Option<u64>, reason: &str) {}
    pub fn set_rtt(&mut self, rtt: Duration) {}

    // ---- drain
    pub fn poll_action(&mut self) -> Option<Action> { None }
    pub fn poll_event(&mut self) -> Option<Event> { None }
    pub fn poll_timeout(&self) -> Option<Time> { None }

    // ---- sessions
    pub fn connect(&mut self, stream: StreamId, request: Request, now: Time) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn accept(&mut self, session: SessionId, response: Response, now: Time) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn reject(&mut self, session: SessionId, status: u16, headers: &[(String, String)], now: Time) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn close_session(&mut self, session: SessionId, code: u32, reason: &str, now: Time) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn drain_session(&mut self, session: SessionId) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn goaway(&mut self) -> Result<(), Error> { Err(Error::ConnectionClosed) }
    pub fn session(&self, session: SessionId) -> Option<SessionView> { None }
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ { std::iter::empty() }
    /// No session, and every CONNECT stream is closed by both ends.
    pub fn is_idle(&self) -> bool { true }

    // ---- streams
    pub fn stream_kind(&self, id: StreamId) -> StreamKind { StreamKind::Unknown }
    pub fn check_open(&mut self, session: SessionId, dir: Dir) -> Result<(), OpenError> { Err(Error::ConnectionClosed.into()) }
    pub fn open_stream(&mut self, session: SessionId, id: StreamId, dir: Dir) -> Result<Bytes, OpenError> { Err(Error::ConnectionClosed.into()) }
    pub fn reserve_send(&mut self, id: StreamId, want: u64) -> u64 { 0 }
    pub fn stream_consumed(&mut self, id: StreamId, len: u64, now: Time) {}
    /// The application's FIN was handed to QUIC.
    pub fn stream_finished(&mut self, id: StreamId) {}
    pub fn reset_stream(&mut self, id: StreamId, app_code: u32) {}
    pub fn stop_stream(&mut self, id: StreamId, app_code: u32) {}
    /// QUIC reports nothing more about this stream.
    pub fn stream_gone(&mut self, id: StreamId) {}

    // ---- datagrams
    pub fn datagram_prefix(&self, session: SessionId) -> Result<Bytes, Error> { Err(Error::ConnectionClosed) }

    // ---- facts
    pub fn dialect(&self) -> Option<Dialect> { None }
    pub fn peer_settings(&self) -> Option<&Settings> { None }
    pub fn is_closed(&self) -> bool { false }
    pub fn stats(&self) -> Stats { Stats::default() }
}
