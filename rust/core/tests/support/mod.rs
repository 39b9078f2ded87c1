//! What the tests share: bytes of a peer written by hand, and two connections in memory.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod pair;
pub mod requests;

use std::time::Duration;

use bytes::Bytes;
use pywt_core::wire::codes::{frame, setting, stream};
use pywt_core::wire::{qpack, settings, stream_header, varint};
use pywt_core::{
    Action, Config, Connection, Dialect, Dir, Event, Request, Response, StreamKind, Time, Transport,
};

/// Streams that a hand-written peer uses. Ours are 3 for a server and 2 for a client.
pub const CLIENT_CONTROL: u64 = 2;
pub const SERVER_CONTROL: u64 = 3;

pub fn transport() -> Transport {
    Transport {
        max_datagram_frame_size: 65_535,
        local_max_datagram_frame_size: 65_535,
        reset_stream_at: true,
        local_reset_stream_at: true,
        ..Transport::default()
    }
}

/// One connection against a peer made of bytes.
pub struct Bench {
    pub conn: Connection,
    pub now: Time,
    /// Everything drained since the last `take_*`.
    pub actions: Vec<Action>,
    pub events: Vec<Event>,
}

impl Bench {
    pub fn new(config: Config) -> Self {
        Self::over(config, transport())
    }

    pub fn over(config: Config, facts: Transport) -> Self {
        let control = match config.role {
            pywt_core::Role::Client => CLIENT_CONTROL,
            pywt_core::Role::Server => SERVER_CONTROL,
        };
        let mut conn = Connection::new(config);
        conn.handle_connected(control, facts, Time::ZERO);
        let mut bench = Self {
            conn,
            now: Time::ZERO,
            actions: vec![],
            events: vec![],
        };
        bench.drain();
        bench.actions.clear();
        bench
    }

    /// A server whose client has not said anything.
    pub fn silent_server() -> Self {
        Self::new(Config::server())
    }

    /// A server whose client speaks this dialect.
    pub fn server_for(dialect: Dialect) -> Self {
        Self::server_with(Config::server(), dialect)
    }

    pub fn server_with(config: Config, dialect: Dialect) -> Self {
        let mut bench = Self::new(config);
        bench.recv(CLIENT_CONTROL, &control_stream(&peer_settings(dialect)));
        assert_eq!(bench.conn.dialect(), Some(dialect));
        bench.events.clear();
        bench
    }

    pub fn server() -> Self {
        Self::server_for(Dialect::Draft02)
    }

    /// A server with session 0 established.
    pub fn server_session(dialect: Dialect) -> Self {
        Self::server_for(dialect).with_session()
    }

    pub fn with_session(mut self) -> Self {
        self.request_session(0);
        self.accept(0);
        self.actions.clear();
        self.events.clear();
        self
    }

    /// A client whose server has said nothing.
    pub fn silent_client() -> Self {
        Self::new(Config::client())
    }

    /// A client whose server speaks this dialect.
    pub fn client_for(dialect: Dialect) -> Self {
        Self::client_with(Config::client(), dialect)
    }

    pub fn client_with(config: Config, dialect: Dialect) -> Self {
        let mut bench = Self::new(config);
        bench.recv(SERVER_CONTROL, &control_stream(&peer_settings(dialect)));
        bench.events.clear();
        bench
    }

    /// A client that asked for session 0.
    pub fn client_asked(dialect: Dialect) -> Self {
        let mut bench = Self::client_for(dialect);
        bench.conn.connect(0, request(), bench.now).unwrap();
        bench.drain();
        bench.actions.clear();
        bench
    }

    /// A client with session 0 established.
    pub fn client_session(dialect: Dialect) -> Self {
        let mut bench = Self::client_asked(dialect);
        bench.recv(0, &headers(&[(":status", "200")]));
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionEstablished { .. }]
        ));
        bench.events.clear();
        bench
    }

    pub fn request_session(&mut self, id: u64) {
        self.recv(
            id,
            &connect_request(self.conn.dialect().map_or("webtransport", Dialect::token)),
        );
    }

    pub fn accept(&mut self, id: u64) {
        self.conn.accept(id, Response::default(), self.now).unwrap();
        self.drain();
    }

    pub fn recv(&mut self, id: u64, data: &[u8]) {
        self.recv_with(id, data, false);
    }

    pub fn recv_fin(&mut self, id: u64, data: &[u8]) {
        self.recv_with(id, data, true);
    }

    pub fn recv_with(&mut self, id: u64, data: &[u8], fin: bool) {
        self.conn
            .handle_stream_data(id, Bytes::copy_from_slice(data), fin, self.now);
        self.drain();
    }

    pub fn recv_bytewise(&mut self, id: u64, data: &[u8]) {
        for byte in data {
            self.recv(id, &[*byte]);
        }
    }

    pub fn reset(&mut self, id: u64, code: u64) {
        self.conn.handle_stream_reset(id, code, 0, self.now);
        self.drain();
    }

    pub fn stop(&mut self, id: u64, code: u64) {
        self.conn.handle_stop_sending(id, code, self.now);
        self.drain();
    }

    pub fn datagram(&mut self, data: &[u8]) {
        self.conn
            .handle_datagram(Bytes::copy_from_slice(data), self.now);
        self.drain();
    }

    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.conn.handle_timeout(self.now);
        self.drain();
    }

    pub fn drain(&mut self) {
        while let Some(action) = self.conn.poll_action() {
            self.actions.push(action);
        }
        while let Some(event) = self.conn.poll_event() {
            self.events.push(event);
        }
    }

    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The code of CONNECTION_CLOSE, if it was sent.
    pub fn connection_error(&self) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::CloseConnection { code, .. } => Some(*code),
            _ => None,
        })
    }

    pub fn reset_code(&self, stream: u64) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::ResetStream { id, code, .. } if *id == stream => Some(*code),
            _ => None,
        })
    }

    pub fn reliable_size(&self, stream: u64) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::ResetStream {
                id, reliable_size, ..
            } if *id == stream => Some(*reliable_size),
            _ => None,
        })
    }

    pub fn stop_code(&self, stream: u64) -> Option<u64> {
        self.actions.iter().find_map(|action| match action {
            Action::StopSending { id, code } if *id == stream => Some(*code),
            _ => None,
        })
    }

    /// Bytes written on a stream, and whether FIN was.
    pub fn sent(&self, stream: u64) -> (Vec<u8>, bool) {
        let mut bytes = Vec::new();
        let mut ended = false;
        for action in &self.actions {
            if let Action::SendStream { id, data, fin } = action {
                if *id == stream {
                    bytes.extend_from_slice(data);
                    ended |= fin;
                }
            }
        }
        (bytes, ended)
    }

    /// The status of the response written on a stream.
    pub fn status(&self, stream: u64) -> Option<String> {
        let (bytes, _) = self.sent(stream);
        let (header, start) = pywt_core::wire::frame::decode_header(&bytes)?;
        let fields =
            qpack::decode_section(&bytes[start..start + header.len as usize], 4096).ok()?;
        Some(String::from_utf8(fields[0].value.to_vec()).unwrap())
    }

    pub fn closed_events(&self) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|e| matches!(e, Event::SessionClosed { .. }))
            .collect()
    }

    #[track_caller]
    pub fn assert_connection_error(&self, code: u64) {
        assert_eq!(self.connection_error(), Some(code), "{:x?}", self.actions);
        assert!(self.conn.is_closed());
    }

    /// The stream was reset and stopped with this code, and nothing worse happened.
    #[track_caller]
    pub fn assert_stream_error(&self, stream: u64, code: u64) {
        assert_eq!(self.connection_error(), None, "{:x?}", self.actions);
        assert_eq!(self.reset_code(stream), Some(code), "{:x?}", self.actions);
        assert_eq!(self.stop_code(stream), Some(code), "{:x?}", self.actions);
    }

    /// The stream was reset with this code; what the peer had ended was not stopped.
    #[track_caller]
    pub fn assert_reset_only(&self, stream: u64, code: u64) {
        assert_eq!(self.connection_error(), None, "{:x?}", self.actions);
        assert_eq!(self.reset_code(stream), Some(code), "{:x?}", self.actions);
        assert_eq!(self.stop_code(stream), None, "{:x?}", self.actions);
        assert_eq!(self.conn.stream_kind(stream), StreamKind::Unknown);
    }

    /// No error of any kind.
    #[track_caller]
    pub fn assert_quiet(&self) {
        let bad = self
            .actions
            .iter()
            .any(|action| !matches!(action, Action::SendStream { .. }));
        assert!(!bad, "{:x?}", self.actions);
    }
}

pub fn request() -> Request {
    Request {
        authority: "example.com".into(),
        path: "/chat".into(),
        ..Request::default()
    }
}

/// The settings that a peer of one dialect sends.
pub fn peer_settings(dialect: Dialect) -> Vec<(u64, u64)> {
    let own = match dialect {
        Dialect::Draft02 => (setting::ENABLE_WEBTRANSPORT_DRAFT02, 1),
        Dialect::Draft07 => (setting::WT_MAX_SESSIONS_DRAFT07, 16),
        Dialect::Draft13 => (setting::WT_MAX_SESSIONS_DRAFT13, 1),
        Dialect::Draft15 => (setting::WT_ENABLED, 1),
    };
    vec![
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
        (setting::H3_DATAGRAM, 1),
        own,
    ]
}

/// As `peer_settings`, with session flow control.
pub fn flow_settings(dialect: Dialect, limit: u64) -> Vec<(u64, u64)> {
    let mut settings = peer_settings(dialect);
    settings.push((setting::WT_INITIAL_MAX_DATA, limit));
    settings.push((setting::WT_INITIAL_MAX_STREAMS_UNI, limit));
    settings.push((setting::WT_INITIAL_MAX_STREAMS_BIDI, limit));
    settings
}

pub fn control_stream(pairs: &[(u64, u64)]) -> Vec<u8> {
    [vec![stream::CONTROL as u8], settings_frame(pairs)].concat()
}

pub fn settings_frame(pairs: &[(u64, u64)]) -> Vec<u8> {
    let mut payload = Vec::new();
    settings::encode(&pairs.iter().copied().collect(), &mut payload);
    frame_of(frame::SETTINGS, &payload)
}

pub fn frame_of(ty: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    pywt_core::wire::frame::encode(ty, payload, &mut out);
    out
}

/// A frame header that announces `len` bytes.
pub fn frame_head(ty: u64, len: u64) -> Vec<u8> {
    let mut out = Vec::new();
    pywt_core::wire::frame::encode_header(ty, len, &mut out);
    out
}

pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    qpack::encode_section(fields.iter().copied(), &mut out);
    out
}

pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame_of(frame::HEADERS, &section(fields))
}

pub fn connect_fields(token: &str) -> Vec<(&str, &str)> {
    vec![
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "example.com"),
        (":path", "/chat"),
        (":protocol", token),
    ]
}

pub fn connect_request(token: &str) -> Vec<u8> {
    headers(&connect_fields(token))
}

pub fn data_frame(payload: &[u8]) -> Vec<u8> {
    frame_of(frame::DATA, payload)
}

/// A capsule by type and payload.
pub fn capsule_of(ty: u64, payload: &[u8]) -> Vec<u8> {
    frame_of(ty, payload)
}

pub fn stream_head(dir: Dir, session: u64) -> Vec<u8> {
    let mut out = Vec::new();
    stream_header::encode(dir, session, &mut out);
    out
}

pub fn varint_of(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(value, &mut out);
    out
}

/// A varint in its 4-byte and 8-byte forms.
pub fn long4(value: u32) -> Vec<u8> {
    (value | 0x8000_0000).to_be_bytes().to_vec()
}

pub fn long8(value: u64) -> Vec<u8> {
    (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec()
}

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
