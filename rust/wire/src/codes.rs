//! Every identifier and error code of the wire, once, with the document that defines it.

/// HTTP/3 frame types.
pub mod frame {
    /// RFC 9114 §7.2.1
    pub const DATA: u64 = 0x00;
    /// RFC 9114 §7.2.2
    pub const HEADERS: u64 = 0x01;
    /// RFC 9114 §7.2.3
    pub const CANCEL_PUSH: u64 = 0x03;
    /// RFC 9114 §7.2.4
    pub const SETTINGS: u64 = 0x04;
    /// RFC 9114 §7.2.5
    pub const PUSH_PROMISE: u64 = 0x05;
    /// RFC 9114 §7.2.6
    pub const GOAWAY: u64 = 0x07;
    /// RFC 9114 §7.2.7
    pub const MAX_PUSH_ID: u64 = 0x0d;
    /// RFC 9218 §7.2: priority of a request stream.
    pub const PRIORITY_UPDATE_REQUEST: u64 = 0x0f_0700;
    /// RFC 9218 §7.2: priority of a push stream.
    pub const PRIORITY_UPDATE_PUSH: u64 = 0x0f_0701;
    /// webtrans-http3-16 §4.3: the signal that opens a bidirectional WebTransport stream.
    pub const WT_STREAM: u64 = 0x41;
}

/// Unidirectional stream types.
pub mod stream {
    /// RFC 9114 §6.2.1
    pub const CONTROL: u64 = 0x00;
    /// RFC 9114 §6.2.2
    pub const PUSH: u64 = 0x01;
    /// RFC 9204 §4.2
    pub const QPACK_ENCODER: u64 = 0x02;
    /// RFC 9204 §4.2
    pub const QPACK_DECODER: u64 = 0x03;
    /// webtrans-http3-16 §4.2
    pub const WT_STREAM: u64 = 0x54;
}

/// Identifiers of HTTP/3 settings.
pub mod setting {
    /// RFC 9204 §5
    pub const QPACK_MAX_TABLE_CAPACITY: u64 = 0x01;
    /// RFC 9114 §7.2.4.1
    pub const MAX_FIELD_SECTION_SIZE: u64 = 0x06;
    /// RFC 9204 §5
    pub const QPACK_BLOCKED_STREAMS: u64 = 0x07;
    /// RFC 9220 §3
    pub const ENABLE_CONNECT_PROTOCOL: u64 = 0x08;
    /// RFC 9297 §2.1.1
    pub const H3_DATAGRAM: u64 = 0x33;
    /// h3-datagram-04; sent by peers older than RFC 9297.
    pub const H3_DATAGRAM_DRAFT04: u64 = 0xff_d277;
    /// webtrans-http3-02
    pub const ENABLE_WEBTRANSPORT_DRAFT02: u64 = 0x2b60_3742;
    /// webtrans-http3-07 to -12
    pub const WT_MAX_SESSIONS_DRAFT07: u64 = 0xc671_706a;
    /// webtrans-http3-13 and -14
    pub const WT_MAX_SESSIONS_DRAFT13: u64 = 0x14e9_cd29;
    /// webtrans-http3-15 and -16
    pub const WT_ENABLED: u64 = 0x2c7c_f000;
    /// webtrans-http3-16 §5.5
    pub const WT_INITIAL_MAX_DATA: u64 = 0x2b61;
    /// webtrans-http3-16 §5.5
    pub const WT_INITIAL_MAX_STREAMS_UNI: u64 = 0x2b64;
    /// webtrans-http3-16 §5.5
    pub const WT_INITIAL_MAX_STREAMS_BIDI: u64 = 0x2b65;
}

/// Capsule types.
pub mod capsule {
    /// RFC 9297 §3.5
    pub const DATAGRAM: u64 = 0x00;
    /// webtrans-http3-16 §6
    pub const WT_CLOSE_SESSION: u64 = 0x2843;
    /// webtrans-http3-16 §4.7
    pub const WT_DRAIN_SESSION: u64 = 0x78ae;
    /// webtrans-http3-16 §5.6
    pub const WT_MAX_DATA: u64 = 0x190b_4d3d;
    /// webtrans-http2; prohibited over HTTP/3.
    pub const WT_MAX_STREAM_DATA: u64 = 0x190b_4d3e;
    /// webtrans-http3-16 §5.6
    pub const WT_MAX_STREAMS_BIDI: u64 = 0x190b_4d3f;
    /// webtrans-http3-16 §5.6
    pub const WT_MAX_STREAMS_UNI: u64 = 0x190b_4d40;
    /// webtrans-http3-16 §5.6
    pub const WT_DATA_BLOCKED: u64 = 0x190b_4d41;
    /// webtrans-http2; prohibited over HTTP/3.
    pub const WT_STREAM_DATA_BLOCKED: u64 = 0x190b_4d42;
    /// webtrans-http3-16 §5.6
    pub const WT_STREAMS_BLOCKED_BIDI: u64 = 0x190b_4d43;
    /// webtrans-http3-16 §5.6
    pub const WT_STREAMS_BLOCKED_UNI: u64 = 0x190b_4d44;
}

/// QUIC transport parameters and frames beyond RFC 9000.
pub mod quic {
    /// RFC 9221 §3
    pub const MAX_DATAGRAM_FRAME_SIZE: u64 = 0x20;
    /// reliable-stream-reset-08 and later
    pub const RESET_STREAM_AT: u64 = 0x1d;
    /// reliable-stream-reset-05 to -07; google/quiche still sends it.
    pub const RESET_STREAM_AT_DRAFT05: u64 = 0x17_f758_6d2c_b571;
    /// reliable-stream-reset-01 to -04, which also used another frame type.
    pub const RESET_STREAM_AT_DRAFT01: u64 = 0x17_f758_6d2c_b570;
    /// webtrans-http3-16 §4.9: the label of a session's TLS exporter.
    pub const EXPORTER_LABEL: &str = "EXPORTER-WebTransport";
    /// The RESET_STREAM_AT frame, reliable-stream-reset-05 and later.
    pub const RESET_STREAM_AT_FRAME: u64 = 0x24;
}

macro_rules! error_codes {
    ($($(#[doc = $doc:literal])+ $konst:ident $variant:ident = $code:literal;)+) => {
        /// The error codes as plain numbers.
        pub mod error {
            $($(#[doc = $doc])+ pub const $konst: u64 = $code;)+
        }

        /// An error code that this library knows by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u64)]
        pub enum ErrorCode {
            $($(#[doc = $doc])+ $variant = error::$konst,)+
        }

        impl ErrorCode {
            /// All of them, in ascending order within each document.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)+];

            /// The HTTP/3, QPACK or WebTransport error with this number. QUIC transport errors
            /// live in a number space of their own and are not looked up.
            pub const fn from_code(code: u64) -> Option<Self> {
                match code {
                    $(error::$konst => Some(ErrorCode::$variant),)+
                    _ => None,
                }
            }

            /// The name in its document.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => stringify!($konst),)+
                }
            }
        }
    };
}

error_codes! {
    /// RFC 9297 §5.2
    H3_DATAGRAM_ERROR H3Datagram = 0x33;
    /// RFC 9114 §8.1
    H3_NO_ERROR H3No = 0x100;
    /// RFC 9114 §8.1
    H3_GENERAL_PROTOCOL_ERROR H3GeneralProtocol = 0x101;
    /// RFC 9114 §8.1
    H3_INTERNAL_ERROR H3Internal = 0x102;
    /// RFC 9114 §8.1
    H3_STREAM_CREATION_ERROR H3StreamCreation = 0x103;
    /// RFC 9114 §8.1
    H3_CLOSED_CRITICAL_STREAM H3ClosedCriticalStream = 0x104;
    /// RFC 9114 §8.1
    H3_FRAME_UNEXPECTED H3FrameUnexpected = 0x105;
    /// RFC 9114 §8.1
    H3_FRAME_ERROR H3Frame = 0x106;
    /// RFC 9114 §8.1
    H3_EXCESSIVE_LOAD H3ExcessiveLoad = 0x107;
    /// RFC 9114 §8.1
    H3_ID_ERROR H3Id = 0x108;
    /// RFC 9114 §8.1
    H3_SETTINGS_ERROR H3Settings = 0x109;
    /// RFC 9114 §8.1
    H3_MISSING_SETTINGS H3MissingSettings = 0x10a;
    /// RFC 9114 §8.1
    H3_REQUEST_REJECTED H3RequestRejected = 0x10b;
    /// RFC 9114 §8.1
    H3_REQUEST_CANCELLED H3RequestCancelled = 0x10c;
    /// RFC 9114 §8.1
    H3_REQUEST_INCOMPLETE H3RequestIncomplete = 0x10d;
    /// RFC 9114 §8.1
    H3_MESSAGE_ERROR H3Message = 0x10e;
    /// RFC 9114 §8.1
    H3_CONNECT_ERROR H3Connect = 0x10f;
    /// RFC 9114 §8.1
    H3_VERSION_FALLBACK H3VersionFallback = 0x110;
    /// RFC 9204 §6
    QPACK_DECOMPRESSION_FAILED QpackDecompressionFailed = 0x200;
    /// RFC 9204 §6
    QPACK_ENCODER_STREAM_ERROR QpackEncoderStream = 0x201;
    /// RFC 9204 §6
    QPACK_DECODER_STREAM_ERROR QpackDecoderStream = 0x202;
    /// webtrans-http3-16 §9.5
    WT_FLOW_CONTROL_ERROR WtFlowControl = 0x045d_4487;
    /// webtrans-http3-16 §9.5
    WT_ALPN_ERROR WtAlpn = 0x0817_b3dd;
    /// webtrans-http3-16 §9.5
    WT_SESSION_GONE WtSessionGone = 0x170d_7b68;
    /// webtrans-http3-16 §9.5
    WT_REQUIREMENTS_NOT_MET WtRequirementsNotMet = 0x212c_0d48;
    /// webtrans-http3-16 §9.5
    WT_BUFFERED_STREAM_REJECTED WtBufferedStreamRejected = 0x3994_bd84;
}

impl ErrorCode {
    /// The number on the wire.
    pub const fn code(self) -> u64 {
        self as u64
    }
}

/// QUIC transport error codes that a codec can ask for (RFC 9000 §20.1).
pub mod quic_error {
    /// FRAME_ENCODING_ERROR
    pub const FRAME_ENCODING_ERROR: u64 = 0x07;
    /// TRANSPORT_PARAMETER_ERROR
    pub const TRANSPORT_PARAMETER_ERROR: u64 = 0x08;
}

/// First HTTP/3 code of the range that carries application stream codes
/// (webtrans-http3-16 §4.4).
pub const APP_ERROR_FIRST: u64 = 0x52e4_a40f_a8db;
/// Last code of that range.
pub const APP_ERROR_LAST: u64 = 0x52e5_ac98_3162;

/// The HTTP/3 code that carries the application code `code` in RESET_STREAM and STOP_SENDING.
pub const fn app_error_to_http(code: u32) -> u64 {
    let code = code as u64;
    // Every 31st code of the range has the form of a reserved (GREASE) code and is stepped over.
    APP_ERROR_FIRST + code + code / 0x1e
}

/// The application code inside an HTTP/3 code; `None` outside the range and for the reserved
/// codes within it.
pub const fn http_to_app_error(code: u64) -> Option<u32> {
    if code < APP_ERROR_FIRST || code > APP_ERROR_LAST || is_grease(code) {
        return None;
    }
    let shifted = code - APP_ERROR_FIRST;
    Some((shifted - shifted / 0x1f) as u32)
}

/// Whether `id` has the form `0x1f * N + 0x21`: reserved in every HTTP/3 number space so that
/// ignoring the unknown gets exercised (RFC 9114 §7.2.8).
pub const fn is_grease(id: u64) -> bool {
    id >= 0x21 && (id - 0x21).is_multiple_of(0x1f)
}

/// The `n`th reserved identifier. `n` is reduced so that the result fits a varint.
pub const fn grease(n: u64) -> u64 {
    0x1f * (n % ((crate::varint::MAX - 0x21) / 0x1f)) + 0x21
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_codes_know_their_number_and_name() {
        for &code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(code));
        }
        assert_eq!(ErrorCode::H3Message.name(), "H3_MESSAGE_ERROR");
        assert_eq!(ErrorCode::from_code(0x1234_5678), None);
    }

    #[test]
    fn application_codes_step_over_the_reserved_ones() {
        let mut previous = APP_ERROR_FIRST - 1;
        for code in 0..10_000 {
            let http = app_error_to_http(code);
            assert!(http > previous && !is_grease(http));
            assert_eq!(http_to_app_error(http), Some(code));
            previous = http;
        }
        assert_eq!(app_error_to_http(u32::MAX), APP_ERROR_LAST);
    }

    #[test]
    fn grease_always_fits_a_varint() {
        for n in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(is_grease(grease(n)) && grease(n) <= crate::varint::MAX);
        }
        assert_eq!(grease(0), 0x21);
        assert!(!is_grease(0x02) && !is_grease(0x41));
    }
}
