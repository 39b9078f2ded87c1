//! Errors: local misuse on one side, what the peer did wrong on the other.
//!
//! Local misuse comes back from the call that caused it. The peer's faults never surface as Rust
//! errors: each maps here, once, to the wire code that the resulting actions and events carry.

use pywt_wire::capsule::CapsuleError;
use pywt_wire::codes::error as code;
use pywt_wire::datagram::DatagramError;
use pywt_wire::qpack::QpackError;
use pywt_wire::quic_extras::QuicExtrasError;
use pywt_wire::settings::SettingsError;
use pywt_wire::stream_header::StreamHeaderError;
use thiserror::Error;

use crate::config::Role;
use crate::{Dir, SessionId, StreamId};

/// A call that the state of the connection does not allow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed or closing.
    #[error("connection is closed")]
    ConnectionClosed,
    /// The peer takes no HTTP Datagrams.
    #[error("peer does not accept datagrams")]
    DatagramsUnsupported,
    /// A label or a context too long for the exporter.
    #[error(transparent)]
    Exporter(#[from] QuicExtrasError),
    /// More fields than the peer takes.
    #[error(
        "fields of {size} bytes are more than the {max} the peer takes; send fewer or shorter ones"
    )]
    FieldsTooLarge {
        /// Their size, the sum of name + value + 32.
        size: u64,
        /// The peer's MAX_FIELD_SECTION_SIZE.
        max: u64,
    },
    /// The server sent GOAWAY; ask on a new connection.
    #[error("server is going away and takes no new session on this connection")]
    GoingAway,
    /// A field the caller gave cannot be sent.
    #[error("invalid field {name:?}: {why}")]
    InvalidField {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The body of a response does not have the length that its head announced or allows.
    #[error("the response has a body of {size} bytes or more, and content-length or status say {length}")]
    BodyTooLong {
        /// What was written, and is to be.
        size: u64,
        /// What there may be.
        length: u64,
    },
    /// The end of a response came too early.
    #[error("the response has a body of {size} bytes, and content-length says {length}")]
    BodyTooShort {
        /// What was written.
        size: u64,
        /// What there has to be.
        length: u64,
    },
    /// The protocol given to `accept` is not one the client offered.
    #[error("application protocol {0:?} was not offered by the client")]
    ProtocolNotOffered(String),
    /// A status that does not reject.
    #[error("status {0} does not reject a request; use 300 to 599")]
    RejectStatus(u16),
    /// The request is unknown, or its response has its end.
    #[error("request {0} is unknown or over")]
    RequestOver(StreamId),
    /// The verb does not fit what was sent of the response: its head comes once, then body and end.
    #[error("the response to request {0} is not in a state that allows this")]
    ResponseState(StreamId),
    /// A status that no response has.
    #[error("status {0} is not in 100..599, or is 101")]
    Status(u16),
    /// The verb belongs to the other role.
    #[error("only a {} may do this", role_name(*.0))]
    Role(Role),
    /// The session is not in a state for this.
    #[error("session {0} is not in a state that allows this")]
    SessionState(SessionId),
    /// The id is taken or has the wrong kind.
    #[error("stream id {0} cannot be used here")]
    StreamId(StreamId),
    /// No session has this id.
    #[error("session {0} is unknown or has ended")]
    UnknownSession(SessionId),
}

/// Why a stream cannot be opened now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The session's stream limit is reached; `Event::StreamsAvailable` follows.
    #[error("session {session} has no {} stream left; wait for StreamsAvailable", dir_name(*.dir))]
    Blocked {
        /// Which.
        session: SessionId,
        /// The kind.
        dir: Dir,
    },
    /// The session is unknown, not established, or has ended; or the id cannot be used.
    #[error(transparent)]
    Invalid(#[from] Error),
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Client => "client",
        Role::Server => "server",
    }
}

fn dir_name(dir: Dir) -> &'static str {
    match dir {
        Dir::Bidi => "bidirectional",
        Dir::Uni => "unidirectional",
    }
}

/// A peer's fault that ends the connection.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum ConnectionError {
    #[error("CANCEL_PUSH for push {0}, which does not exist")]
    CancelPush(u64),
    #[error("critical stream was closed")]
    ClosedCriticalStream,
    #[error(transparent)]
    Datagram(#[from] DatagramError),
    #[error("H3_DATAGRAM without QUIC datagrams")]
    DatagramSetting,
    #[error("datagram of {0} bytes is larger than announced")]
    DatagramOversize(usize),
    #[error("too many {0}")]
    Flood(&'static str),
    #[error("frame type {0:#x} has a malformed payload")]
    FrameMalformed(u64),
    #[error("frame of type {ty:#x} announces {len} bytes, the limit is {max}")]
    FrameTooLarge { ty: u64, len: u64, max: u64 },
    #[error("stream ended inside a frame")]
    FrameTruncated,
    #[error("frame type {0:#x} is not allowed here")]
    FrameUnexpected(u64),
    #[error("GOAWAY id {0} is invalid or larger than before")]
    GoawayId(u64),
    #[error("MAX_PUSH_ID {0} is smaller than before")]
    MaxPushIdReduced(u64),
    #[error("first frame on the control stream is not SETTINGS")]
    MissingSettings,
    #[error("push stream without a push id granted")]
    PushStream,
    #[error("push stream from a client")]
    PushStreamFromClient,
    #[error(transparent)]
    Qpack(#[from] QpackError),
    #[error("server does not offer WebTransport")]
    RequirementsNotMet,
    #[error("second {0} stream")]
    SecondCriticalStream(&'static str),
    #[error("setting {0:#x} was reduced after 0-RTT was accepted")]
    SettingReduced(u64),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("no SETTINGS within the time allowed")]
    SettingsTimeout,
    #[error("peer gives no credit for {0} bytes of headers and capsules")]
    Unsent(usize),
    #[error(transparent)]
    StreamHeader(#[from] StreamHeaderError),
    #[error("server-initiated bidirectional stream outside WebTransport")]
    UnexpectedServerStream,
    #[error("WebTransport stream signal is not at the start of a stream")]
    WtSignalMisplaced,
}

impl ConnectionError {
    pub(crate) fn code(&self) -> u64 {
        match self {
            Self::DatagramOversize(_) => code::H3_DATAGRAM_ERROR,
            Self::SecondCriticalStream(_)
            | Self::PushStreamFromClient
            | Self::UnexpectedServerStream => code::H3_STREAM_CREATION_ERROR,
            Self::ClosedCriticalStream => code::H3_CLOSED_CRITICAL_STREAM,
            Self::FrameUnexpected(_) => code::H3_FRAME_UNEXPECTED,
            Self::FrameMalformed(_) | Self::FrameTruncated | Self::WtSignalMisplaced => {
                code::H3_FRAME_ERROR
            }
            Self::Flood(_) | Self::FrameTooLarge { .. } | Self::Unsent(_) => {
                code::H3_EXCESSIVE_LOAD
            }
            Self::CancelPush(_)
            | Self::GoawayId(_)
            | Self::MaxPushIdReduced(_)
            | Self::PushStream => code::H3_ID_ERROR,
            Self::DatagramSetting | Self::SettingReduced(_) => code::H3_SETTINGS_ERROR,
            Self::Settings(error) => error.code(),
            Self::StreamHeader(error) => error.code(),
            Self::Datagram(error) => error.code(),
            Self::Qpack(error) => error.code(),
            Self::MissingSettings | Self::SettingsTimeout => code::H3_MISSING_SETTINGS,
            Self::RequirementsNotMet => code::WT_REQUIREMENTS_NOT_MET,
        }
    }
}

/// A peer's fault that ends one request, session or stream.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum StreamError {
    #[error("application protocol was not offered")]
    AlpnMismatch,
    #[error(transparent)]
    Capsule(#[from] CapsuleError),
    #[error("stream ended inside a capsule")]
    CapsuleTruncated,
    #[error("data after the CLOSE capsule")]
    DataAfterClose,
    #[error("datagram for a request without datagrams")]
    DatagramUnexpected,
    #[error("session flow control violated: {0}")]
    FlowControl(&'static str),
    #[error("message is malformed: {0}")]
    Message(&'static str),
    #[error("too much data: {0}")]
    Overload(&'static str),
    #[error("stream ended before a complete message")]
    Incomplete,
    #[error("request refused: no session is left")]
    Rejected,
    #[error("peer stopped the CONNECT stream")]
    Stopped,
    #[error("{0}")]
    Unsendable(String),
    #[error("server does not offer WebTransport")]
    Unsupported,
}

impl StreamError {
    pub(crate) fn code(&self) -> u64 {
        match self {
            Self::AlpnMismatch => code::WT_ALPN_ERROR,
            Self::Capsule(error) => error.code(),
            Self::CapsuleTruncated | Self::DataAfterClose | Self::Message(_) => {
                code::H3_MESSAGE_ERROR
            }
            Self::DatagramUnexpected => code::H3_DATAGRAM_ERROR,
            Self::FlowControl(_) => code::WT_FLOW_CONTROL_ERROR,
            Self::Overload(_) => code::H3_EXCESSIVE_LOAD,
            Self::Incomplete => code::H3_REQUEST_INCOMPLETE,
            Self::Rejected => code::H3_REQUEST_REJECTED,
            Self::Stopped | Self::Unsendable(_) => code::H3_REQUEST_CANCELLED,
            Self::Unsupported => code::WT_REQUIREMENTS_NOT_MET,
        }
    }
}

/// Either kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Connection(ConnectionError),
    Stream(StreamError),
}

impl From<ConnectionError> for Fault {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

impl From<StreamError> for Fault {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}
