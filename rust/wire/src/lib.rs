//! pywt-wire
