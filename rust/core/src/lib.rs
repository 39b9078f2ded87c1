//! pywt-core
