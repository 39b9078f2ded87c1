//! QPACK (RFC 9204) with a dynamic table of capacity zero, in both directions.
//!
//! A decoder that offers no table needs no state between sections, sends no instructions and is
//! never blocked; what remains is the static table, Huffman and prefix integers. The two
//! instruction streams are still read, to refuse what a peer may not send ([`instructions`]).

mod decode;
mod encode;
pub mod huffman;
pub mod instructions;
mod prefix_int;
pub mod static_table;

use bytes::Bytes;
use thiserror::Error;

use crate::codes::error;

pub use decode::{
    decode_section, parse_section, Budget, EncodedLine, FieldLine, Limits, Lines, Representation,
    Scratch,
};
pub use encode::{encode_field, encode_prefix, encode_section, encode_section_with, Huffman};
pub use instructions::{DecoderStream, EncoderStream};

/// What a field costs beyond its name and value when a section is measured (RFC 9114 §4.2.2).
pub const FIELD_OVERHEAD: usize = 32;

/// Most fields in one section unless the caller says otherwise.
pub const MAX_FIELDS: usize = 256;

/// A decoded field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name, as sent.
    pub name: Bytes,
    /// The value, as sent.
    pub value: Bytes,
}

/// Why a section or an instruction stream was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QpackError {
    /// The peer's decoder stream acknowledges what was never inserted, or is malformed.
    #[error("the QPACK decoder stream acknowledges insertions that were never made")]
    DecoderStream,
    /// A reference to the dynamic table, which has no capacity.
    #[error("the header section refers to a dynamic table that was not offered")]
    DynamicReference,
    /// The peer's encoder stream uses a dynamic table that was not offered.
    #[error("the QPACK encoder stream uses a dynamic table that was not offered")]
    EncoderStream,
    /// More fields than the limit.
    #[error("the header section has more than {0} fields")]
    FieldCount(usize),
    /// A Huffman string with an end-of-string code in it, or with wrong padding.
    #[error("malformed Huffman string")]
    Huffman,
    /// A prefix integer above 62 bits.
    #[error("a prefix integer does not fit 62 bits")]
    Integer,
    /// More bytes, as RFC 9114 §4.2.2 counts them, than the limit.
    #[error("the decoded header section is larger than {0} bytes")]
    SectionSize(usize),
    /// An index past the end of the static table.
    #[error("the static table has no entry {0}")]
    StaticIndex(u64),
    /// A string longer than what is left of the size limit.
    #[error("a string of the header section is longer than the {0} bytes left to it")]
    StringSize(usize),
    /// The section ends inside a field.
    #[error("the header section ends inside a field")]
    Truncated,
}

impl QpackError {
    /// The error code that this is: for a limit that of the stream, else that of the connection.
    pub const fn code(&self) -> u64 {
        match self {
            Self::DecoderStream => error::QPACK_DECODER_STREAM_ERROR,
            Self::EncoderStream => error::QPACK_ENCODER_STREAM_ERROR,
            Self::FieldCount(_) | Self::SectionSize(_) | Self::StringSize(_) => {
                error::H3_EXCESSIVE_LOAD
            }
            Self::DynamicReference
            | Self::Huffman
            | Self::Integer
            | Self::StaticIndex(_)
            | Self::Truncated => error::QPACK_DECOMPRESSION_FAILED,
        }
    }

    /// Whether this is a limit of ours rather than a fault of the peer: such a request can be
    /// answered with 431 and the connection goes on.
    pub const fn is_limit(&self) -> bool {
        matches!(
            self,
            Self::FieldCount(_) | Self::SectionSize(_) | Self::StringSize(_)
        )
    }
}
