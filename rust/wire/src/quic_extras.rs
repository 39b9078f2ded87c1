//! QUIC pieces that WebTransport needs and QUIC libraries may lack: the RESET_STREAM_AT frame
//! (reliable-stream-reset-10), transport parameters, and the context of the TLS exporter
//! (webtrans-http3-16 §4.9).

use std::iter::FusedIterator;

use thiserror::Error;

use crate::codes::{quic, quic_error};
use crate::varint;

/// A RESET_STREAM_AT frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetStreamAt {
    /// The stream.
    pub stream_id: u64,
    /// HTTP/3 error code.
    pub code: u64,
    /// Bytes sent on the stream in all.
    pub final_size: u64,
    /// Bytes from the start of the stream that are still delivered.
    pub reliable_size: u64,
}

/// A transport parameter, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportParameter<'a> {
    /// The identifier.
    pub id: u64,
    /// Its value, uninterpreted.
    pub value: &'a [u8],
}

/// What an application exports keying material for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExporterContext<'a> {
    /// The session.
    pub session_id: u64,
    /// Application label, at most 255 bytes.
    pub label: &'a [u8],
    /// Application context, at most 255 bytes; absent and empty are the same.
    pub context: &'a [u8],
}

/// Why one of these was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuicExtrasError {
    /// An exporter label or context above 255 bytes. Local misuse.
    #[error("exporter {field} is {size} bytes, at most 255 fit")]
    ExporterSize {
        /// "label" or "context".
        field: &'static str,
        /// Its size.
        size: usize,
    },
    /// An exporter context that is not of this form. Contexts are never on the wire.
    #[error("not an exporter context")]
    ExporterSyntax,
    /// A transport parameter with a value it cannot have, or that ends too early.
    #[error("malformed transport parameter")]
    Parameter,
    /// The reliable size exceeds the final size.
    #[error("reliable size {reliable} is larger than final size {final_size}")]
    ReliableSize {
        /// Reliable size.
        reliable: u64,
        /// Final size.
        final_size: u64,
    },
}

impl QuicExtrasError {
    /// The QUIC transport error that this is; `None` for what no peer can cause.
    pub const fn code(&self) -> Option<u64> {
        match self {
            Self::ExporterSize { .. } | Self::ExporterSyntax => None,
            Self::Parameter => Some(quic_error::TRANSPORT_PARAMETER_ERROR),
            Self::ReliableSize { .. } => Some(quic_error::FRAME_ENCODING_ERROR),
        }
    }
}

impl ResetStreamAt {
    /// The fields after the frame type, and their length; `None` when `buf` is too short.
    pub fn decode(buf: &[u8]) -> Result<Option<(Self, usize)>, QuicExtrasError> {
        let mut fields = [0; 4];
        let mut consumed = 0;
        for field in &mut fields {
            let rest = buf.get(consumed..).unwrap_or_default();
            let Some((value, len)) = varint::decode(rest) else {
                return Ok(None);
            };
            *field = value;
            consumed += len;
        }
        let [stream_id, code, final_size, reliable_size] = fields;
        if reliable_size > final_size {
            return Err(QuicExtrasError::ReliableSize {
                reliable: reliable_size,
                final_size,
            });
        }
        Ok(Some((
            Self {
                stream_id,
                code,
                final_size,
                reliable_size,
            },
            consumed,
        )))
    }

    /// Append the frame, type included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for value in [
            quic::RESET_STREAM_AT_FRAME,
            self.stream_id,
            self.code,
            self.final_size,
            self.reliable_size,
        ] {
            varint::encode(value, out);
        }
    }
}

impl TransportParameter<'_> {
    /// Append the parameter.
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::encode(self.id, out);
        varint::encode(self.value.len() as u64, out);
        out.extend_from_slice(self.value);
    }

    /// Whether this announces support of the RESET_STREAM_AT frame of type 0x24. A value that is
    /// not empty is an error (reliable-stream-reset-10 §3).
    pub fn announces_reset_stream_at(&self) -> Result<bool, QuicExtrasError> {
        match self.id {
            quic::RESET_STREAM_AT | quic::RESET_STREAM_AT_DRAFT05 if self.value.is_empty() => {
                Ok(true)
            }
            quic::RESET_STREAM_AT | quic::RESET_STREAM_AT_DRAFT05 => {
                Err(QuicExtrasError::Parameter)
            }
            _ => Ok(false),
        }
    }

    /// The value as one varint, as most parameters have it.
    pub fn number(&self) -> Result<u64, QuicExtrasError> {
        match varint::decode(self.value) {
            Some((number, len)) if len == self.value.len() => Ok(number),
            _ => Err(QuicExtrasError::Parameter),
        }
    }
}

/// The parameters of a whole quic_transport_parameters extension. After an error nothing follows.
pub fn parse_transport_parameters(buf: &[u8]) -> TransportParameters<'_> {
    TransportParameters { buf }
}

/// Iterator over transport parameters.
#[derive(Debug, Clone)]
pub struct TransportParameters<'a> {
    buf: &'a [u8],
}

impl<'a> Iterator for TransportParameters<'a> {
    type Item = Result<TransportParameter<'a>, QuicExtrasError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.buf.is_empty() {
            return None;
        }
        // A parameter has the same shape as a frame: id, length, bytes.
        let mut frames = crate::frame::parse_many(self.buf);
        match frames.next() {
            Some(frame) => {
                self.buf = self.buf.get(frames.consumed()..).unwrap_or_default();
                Some(Ok(TransportParameter {
                    id: frame.ty,
                    value: frame.payload,
                }))
            }
            None => {
                self.buf = &[];
                Some(Err(QuicExtrasError::Parameter))
            }
        }
    }
}

impl FusedIterator for TransportParameters<'_> {}

impl<'a> ExporterContext<'a> {
    /// Take a context apart.
    pub fn decode(buf: &'a [u8]) -> Result<Self, QuicExtrasError> {
        Self::decode_parts(buf).ok_or(QuicExtrasError::ExporterSyntax)
    }

    /// Append the context to give to the TLS exporter.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), QuicExtrasError> {
        let length = |field, bytes: &[u8]| {
            u8::try_from(bytes.len()).map_err(|_| QuicExtrasError::ExporterSize {
                field,
                size: bytes.len(),
            })
        };
        let label_len = length("label", self.label)?;
        let context_len = length("context", self.context)?;
        out.extend_from_slice(&self.session_id.to_be_bytes());
        out.push(label_len);
        out.extend_from_slice(self.label);
        out.push(context_len);
        out.extend_from_slice(self.context);
        Ok(())
    }

    fn decode_parts(buf: &'a [u8]) -> Option<Self> {
        let (session_id, rest) = buf.split_first_chunk()?;
        let (label_len, rest) = rest.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(*label_len))?;
        let (context_len, context) = rest.split_first()?;
        (context.len() == usize::from(*context_len)).then_some(Self {
            session_id: u64::from_be_bytes(*session_id),
            label,
            context,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporter_parts_fit_at_255_bytes_and_not_at_256() {
        let long = [b'x'; 256];
        let mut out = Vec::new();
        let fits = ExporterContext {
            session_id: 0,
            label: &long[..255],
            context: &long[..255],
        };
        assert_eq!(fits.encode(&mut out), Ok(()));
        assert_eq!(ExporterContext::decode(&out), Ok(fits));
        for (label, context) in [(&long[..], &[][..]), (&[], &long[..])] {
            let error = ExporterContext {
                session_id: 0,
                label,
                context,
            }
            .encode(&mut out);
            assert!(matches!(
                error,
                Err(QuicExtrasError::ExporterSize { size: 256, .. })
            ));
            assert_eq!(error.map_err(|e| e.code()), Err(None));
        }
    }

    #[test]
    fn a_reset_stream_at_parameter_with_a_value_is_refused() {
        let parameter = TransportParameter {
            id: quic::RESET_STREAM_AT,
            value: &[1],
        };
        let error = parameter.announces_reset_stream_at();
        assert_eq!(
            error.map_err(|e| e.code()),
            Err(Some(quic_error::TRANSPORT_PARAMETER_ERROR))
        );
    }
}
