//! Which thread an endpoint belongs to: the one that runs its event loop.

use std::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;

/// A thread, told from others for as long as it lives.
pub(crate) struct Home {
    mark: usize,
    name: String,
}

impl Home {
    /// The present thread.
    pub(crate) fn here(py: Python<'_>) -> PyResult<Self> {
        let thread = py
            .import(intern!(py, "threading"))?
            .call_method0(intern!(py, "current_thread"))?;
        Ok(Self {
            mark: mark(),
            name: thread.getattr(intern!(py, "name"))?.extract()?,
        })
    }

    pub(crate) fn is_here(&self) -> bool {
        self.mark == mark()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Differs between threads that live at the same time, and is found without a call.
fn mark() -> usize {
    thread_local! {
        static MARK: Cell<u8> = const { Cell::new(0) };
    }
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
