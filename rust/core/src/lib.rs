//! One HTTP/3 connection that carries WebTransport, client or server, without I/O.
//!
//! # Theory of operation
//!
//! A [`Connection`] knows HTTP/3 (RFC 9114), HTTP Datagrams and capsules (RFC 9297) and every
//! deployed dialect of WebTransport over HTTP/3. It does not know sockets, clocks, threads or
//! which QUIC carries it. A *driver* owns the QUIC connection and stands between the two:
//!
//! ```text
//!     QUIC events ──handle_*──▶ ┌────────────┐ ──poll_action──▶ QUIC
//!     time        ──handle_timeout▶ Connection │ ──poll_event───▶ application
//!     application ──verbs─────▶ └────────────┘ ──poll_timeout─▶ one timer
//! ```
//!
//! ## The drain contract
//!
//! 1. Call any number of `handle_*` and verbs.
//! 2. Drain [`Connection::poll_action`] until `None` and carry out each action in order.
//! 3. Drain [`Connection::poll_event`] until `None`.
//! 4. Arm one timer for [`Connection::poll_timeout`]; call [`Connection::handle_timeout`] when it
//!    fires. A deadline may be stale: then nothing happens.
//!
//! Draining once per batch is what coalesces flow-control capsules; the queues in between are
//! bounded by what the batch put in. Actions and events are independent: carrying out an action
//! never changes what the drained events mean. `now` is the time since an epoch of the driver's
//! choice and never goes back.
//!
//! No byte from the peer panics, loops, or grows memory without a field of [`Limits`] (or a limit of
//! the wire format or of QUIC, as said there). After
//! [`Action::CloseConnection`] or [`Connection::handle_closed`] every session has had its
//! [`Event::SessionClosed`], further input is ignored and verbs return
//! [`Error::ConnectionClosed`].
//!
//! ## Streams the driver opens
//!
//! * One unidirectional stream, before any other, for [`Connection::handle_connected`].
//! * A client: one bidirectional stream per [`Connection::connect`]. Its id is the session's id.
//!   Nothing is sent on it before the peer's SETTINGS arrived.
//! * A WebTransport stream: [`Connection::check_open`], then open it in QUIC, then
//!   [`Connection::open_stream`] with its id; write the returned header first.
//!
//! On the control and CONNECT streams this crate does all the writing, by [`Action::SendStream`].
//!
//! ## Payload: push and pull
//!
//! The first bytes of a stream that the peer opened always go through
//! [`Connection::handle_stream_data`], which strips the header. After that a driver may go on
//! pushing every chunk and get it back as [`Event::StreamData`], or keep payload where it is:
//! once [`Connection::stream_kind`] says [`StreamKind::Session`] it counts arriving bytes by
//! [`Connection::handle_stream_bytes`] and never shows them. The rest of the chunk that held the
//! header comes back as `StreamData` in both modes, before anything the driver kept.
//!
//! While the kind is [`StreamKind::Held`] the session is not established. Pushed payload is kept
//! here under the early limits and comes back after `StreamOpened`; a pulling driver leaves
//! further payload in QUIC until `StreamOpened`, or counts it by `handle_stream_bytes`.
//! [`StreamKind::Pending`] and [`StreamKind::Internal`] streams are always pushed.
//!
//! Both modes: when the application has read payload, [`Connection::stream_consumed`] returns
//! the session's credit; how fast it does, against [`Connection::set_rtt`], tunes the window.
//! Sending, the application's write is bounded by [`Connection::reserve_send`]; bytes granted are
//! spent, unless [`Connection::release_send`] gives them back. Both are free when
//! [`SessionView::flow_control`] is off, as it is unless both ends offer [`FlowControl`];
//! `stream_consumed` also where ours is ample, as it is by default.
//!
//! A datagram is sent by the driver, behind [`Connection::datagram_prefix`].
//!
//! ## The end of a stream
//!
//! A stream has two halves. The receiving half ends by FIN or reset from the peer, the sending half
//! by FIN ([`Connection::stream_finished`]), by [`Connection::reset_stream`] or by the peer's
//! STOP_SENDING. An entry goes when both have ended (and, where session credit depends on it, its
//! payload was consumed). A stream that is refused has none from then on: what still arrives for it
//! is ignored, as is every call for an id that has no entry.
//!
//! A receiving half stopped by [`Action::StopSending`] goes on until the driver says that it has
//! ended, whoever the stream belongs to: by FIN or reset like any other, or, where QUIC gives
//! neither for a stopped stream, by [`Connection::stopped_stream_gone`] with its final size. When
//! QUIC reports nothing more about a stream, [`Connection::stream_gone`] drops it in any state.
//!
//! Final sizes are exact: session flow control counts what was sent, not what arrived
//! (webtrans-http3-16 §5.4).
//!
//! When the peer stops a stream, the answering reset is an action with the peer's code
//! (RFC 9000 §3.5); QUIC stacks that reset by themselves make it a no-op. STOP_SENDING may come
//! before the first byte: it is kept for whoever the stream will belong to.
//!
//! ## The end of a session
//!
//! `SessionClosed` (or `SessionRejected`) is its last event. Before it each half of each of its
//! streams that is still open has been reset and stopped with WT_SESSION_GONE, as actions and as
//! `StreamReset` / `StreamStopped` events. What had ended before is left alone, on purpose: a FIN
//! that was received makes a stream whole, and one that was sent still delivers what is before it
//! (webtrans-http3-16 §6 would reset that too).
//!
//! A pulling driver knows more than this crate does: QUIC may hold the rest of a stream up to its
//! FIN. So when [`Action::StopSending`] with WT_SESSION_GONE concerns a stream of a session, it
//! looks: with FIN there it does not stop the stream, keeps what it holds readable, and does not
//! pass on the `StreamReset` with that code.
//!
//! The CONNECT stream lingers inside until the peer ends its side, at most
//! [`Limits::close_timeout`]; our CLOSE and FIN, or our answer, are not reset then, only the peer's
//! side is stopped. A driver that closes QUIC afterwards ends what is left by
//! [`Connection::close_all`] and waits until [`Connection::is_idle`], or the peer may never see
//! code and reason.

#![forbid(unsafe_code)]

mod classify;
mod config;
mod connection;
mod control;
mod datagram;
mod dialect;
mod early;
mod error;
mod event;
mod limits;
mod map;
mod request;
mod session;
mod stream;
mod timer;
mod tlv;

use std::time::Duration;

pub use pywt_wire as wire;
pub use pywt_wire::Dir;

pub use crate::config::{Config, FlowControl, Request, Response, Role, Transport};
pub use crate::connection::{Connection, SessionState, SessionView, StreamKind};
pub use crate::dialect::Dialect;
pub use crate::error::{Error, OpenError};
pub use crate::event::{Action, ClosedBy, Event, Stats};
pub use crate::limits::{Limits, Rate};
pub use crate::session::flow::{FlowView, Usage};

/// Time since an epoch of the driver's choice.
pub type Time = Duration;

/// A QUIC stream id.
pub type StreamId = u64;

/// The id of a session's CONNECT stream.
pub type SessionId = u64;
