//! Errors of `pywt-core` as Python exceptions, and the wall that no panic passes.

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pywt_core::{Error, OpenError};

create_exception!(
    pywebtransport._native,
    CoreError,
    PyException,
    "A call that the state of the HTTP/3 connection does not allow."
);
create_exception!(
    pywebtransport._native,
    CoreClosed,
    CoreError,
    "The HTTP/3 connection is closed or closing."
);
create_exception!(
    pywebtransport._native,
    CorePanic,
    CoreError,
    "A bug in this library; the connection it happened on is lost, please report it."
);
create_exception!(
    pywebtransport._native,
    CoreSessionError,
    CoreError,
    "The session is unknown, has ended, or is not in a state for this."
);

pub(crate) fn core_error(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::ConnectionClosed => CoreClosed::new_err(text),
        Error::GoingAway
        | Error::RequestOver(_)
        | Error::SessionState(_)
        | Error::UnknownSession(_) => CoreSessionError::new_err(text),
        Error::BodyTooLong { .. }
        | Error::BodyTooShort { .. }
        | Error::FieldsTooLarge { .. }
        | Error::Exporter(_)
        | Error::InvalidField { .. }
        | Error::ResponseState(_)
        | Error::Status(_)
        | Error::ProtocolNotOffered(_)
        | Error::RejectStatus(_)
        | Error::StreamId(_) => PyValueError::new_err(text),
        _ => CoreError::new_err(text),
    }
}

/// `Ok(None)`: blocked, `streams_available` follows.
pub(crate) fn open_result<T>(result: Result<T, OpenError>) -> PyResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(OpenError::Blocked { .. }) => Ok(None),
        Err(OpenError::Invalid(error)) => Err(core_error(error)),
    }
}

/// A value that a panic takes out of use: later calls get [`CoreClosed`].
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// Runs `f` on the value; a panic in it becomes [`CorePanic`] and drops the value.
    pub(crate) fn run<R>(&mut self, f: impl FnOnce(&mut T) -> R) -> PyResult<R> {
        let Some(value) = self.0.as_mut() else {
            return Err(CoreClosed::new_err(
                "the connection was lost to an internal error",
            ));
        };
        catch_unwind(AssertUnwindSafe(|| f(value))).map_err(|panic| {
            self.0 = None;
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            CorePanic::new_err(format!("internal error, please report it: {text}"))
        })
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("CoreError", py.get_type::<CoreError>())?;
    m.add("CoreClosed", py.get_type::<CoreClosed>())?;
    m.add("CorePanic", py.get_type::<CorePanic>())?;
    m.add("CoreSessionError", py.get_type::<CoreSessionError>())?;
    Ok(())
}
