//! pywt-quic
