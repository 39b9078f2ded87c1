//! pywt-endpoint
