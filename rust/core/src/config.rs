//! What the driver decides: configuration, transport facts, requests and answers.

use pywt_wire::settings::Settings;

use crate::dialect::Dialect;
use crate::limits::Limits;

/// Which end of the connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the QUIC connection and asks for sessions.
    Client,
    /// Accepted the QUIC connection and answers requests.
    Server,
}

/// Session flow control as this end offers it (webtrans-http3-16 §5).
///
/// The default offers so much that QUIC's windows stay the limit: Safari's pages cannot open
/// streams without credit, and drafts 13 and later allow one session on a connection without it.
///
/// [`FlowControl::OFF`] does not offer it: no `WT_INITIAL_MAX_*` setting is sent, WT_MAX_SESSIONS
/// is announced as 1 to drafts 13 and 14, and QUIC's limits alone apply. When one value is 0 and
/// another is not, 0 means "nothing until more is granted".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowControl {
    /// Bytes of stream payload the peer may send in a session at first; also the first window.
    pub initial_max_data: u64,
    /// Bidirectional streams the peer may open at first; also how many at once later.
    pub initial_max_streams_bidi: u64,
    /// Unidirectional streams the peer may open at first; also how many at once later.
    pub initial_max_streams_uni: u64,
    /// The data window doubles up to this while the application keeps up; no tuning at or
    /// below `initial_max_data`.
    pub max_data_window: u64,
    /// As `max_data_window`, for the streams of one kind at once.
    pub max_streams_window: u64,
}

impl FlowControl {
    /// A limit that nobody reaches. Peers were seen to take up to 2^60.
    pub const AMPLE: u64 = 1 << 56;

    /// Session flow control is not offered.
    pub const OFF: Self = Self {
        initial_max_data: 0,
        initial_max_streams_bidi: 0,
        initial_max_streams_uni: 0,
        max_data_window: 0,
        max_streams_window: 0,
    };

    /// Whether any limit can be reached.
    pub(crate) fn is_bounding(&self) -> bool {
        let limits = [
            self.initial_max_data,
            self.initial_max_streams_bidi,
            self.initial_max_streams_uni,
        ];
        self.is_offered() && limits.iter().any(|&limit| limit < Self::AMPLE)
    }

    /// Whether any credit is announced in SETTINGS.
    pub fn is_offered(&self) -> bool {
        self.initial_max_data > 0
            || self.initial_max_streams_bidi > 0
            || self.initial_max_streams_uni > 0
    }
}

impl Default for FlowControl {
    fn default() -> Self {
        Self {
            initial_max_data: Self::AMPLE,
            initial_max_streams_bidi: Self::AMPLE,
            initial_max_streams_uni: Self::AMPLE,
            ..Self::OFF
        }
    }
}

/// Everything the driver decides before a connection starts. Share one between connections by
/// `Arc`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Which end this is.
    pub role: Role,
    /// Dialects offered; a client speaks the highest both ends know, a server the one asked for.
    pub dialects: Vec<Dialect>,
    /// Refuse what the drafts forbid but deployed peers do: no WebTransport setting at all, raw
    /// capsules on the CONNECT stream, token and setting of different drafts, missing support of
    /// datagrams, extended CONNECT or reset_stream_at. Off by default.
    pub strict: bool,
    /// Session flow control offered to the peer.
    pub flow_control: FlowControl,
    /// Server: ordinary requests are shown to the application, by
    /// [`Event::RequestReceived`](crate::Event); else they are answered 404. Off by default.
    pub serves_requests: bool,
    /// Send a reserved setting and a reserved frame (RFC 9114 §7.2.8, §7.2.4.1).
    pub grease: bool,
    /// Chooses which reserved values; a driver puts a random number here.
    pub grease_seed: u64,
    /// Bounds on what the peer can make us keep.
    pub limits: Limits,
}

impl Config {
    /// A client that offers every dialect, leniently, with ample session credit.
    pub fn client() -> Self {
        Self::new(Role::Client)
    }

    /// A server that offers every dialect, leniently, with ample session credit.
    pub fn server() -> Self {
        Self::new(Role::Server)
    }

    fn new(role: Role) -> Self {
        Self {
            role,
            dialects: Dialect::ALL.to_vec(),
            strict: false,
            flow_control: FlowControl::default(),
            serves_requests: false,
            grease: true,
            grease_seed: 0,
            limits: Limits::default(),
        }
    }
}

/// Facts of the QUIC handshake that HTTP/3 rules depend on.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// The peer's `max_datagram_frame_size`; 0: it takes no datagrams.
    pub max_datagram_frame_size: u64,
    /// Ours, as announced; 0: a received datagram is a connection error.
    pub local_max_datagram_frame_size: u64,
    /// The peer announced `reset_stream_at` under any known id.
    pub reset_stream_at: bool,
    /// We announced it, and QUIC carries out [`Action::ResetStream`](crate::Action) with a
    /// reliable size.
    pub local_reset_stream_at: bool,
    /// The handshake goes on: [`Connection::handle_handshake_complete`] follows.
    ///
    /// [`Connection::handle_handshake_complete`]: crate::Connection::handle_handshake_complete
    pub is_handshaking: bool,
    /// Client whose 0-RTT was accepted: the settings remembered with the ticket, from
    /// [`Connection::peer_settings`](crate::Connection::peer_settings) of the earlier connection.
    pub early_settings: Option<Settings>,
}

impl Transport {
    /// Whether a reset can keep the beginning of a stream.
    pub(crate) fn resets_at(&self) -> bool {
        self.reset_stream_at && self.local_reset_stream_at
    }
}

/// A client's request for a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Host and port as in the URL; the port may be left out when it is 443.
    pub authority: String,
    /// Path and query; starts with `/`.
    pub path: String,
    /// Further fields, lower-case names; `origin` goes here.
    pub headers: Vec<(String, String)>,
    /// Application protocols offered, most wanted first.
    pub protocols: Vec<String>,
}

/// A server's acceptance of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The application protocol chosen from those the client offered.
    pub protocol: Option<String>,
    /// Further fields, lower-case names.
    pub headers: Vec<(String, String)>,
}
