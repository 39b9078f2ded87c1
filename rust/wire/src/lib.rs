//! Bytes to values and back, for every wire format that WebTransport over HTTP/3 needs.
//!
//! One file per format. Nothing here keeps state between calls (the two QPACK instruction-stream
//! checkers keep a few bytes), does I/O, knows the time, or decides policy.
//!
//! The rules of the room:
//!
//! * Input that may still grow and is too short yet is a value (`None`), never an error.
//! * Input that can never become valid is an error, and each error knows its wire code (`code()`).
//! * Decoders borrow from their input; what is allocated is bounded by a limit the caller names.
//! * No input makes a function panic.

#![forbid(unsafe_code)]

pub mod capsule;
pub mod codes;
pub mod datagram;
pub mod frame;
pub mod qpack;
pub mod quic_extras;
pub mod settings;
pub mod stream_header;
pub mod structured_field;
pub mod varint;

pub use codes::ErrorCode;
pub use stream_header::Dir;
