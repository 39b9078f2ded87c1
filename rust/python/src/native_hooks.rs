//! What the native engine asks of its event loop, through the methods of one Python object.

use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_endpoint::Wishes;

/// The Python object of a reactor, and its busiest method.
pub(crate) struct Hooks {
    object: Py<PyAny>,
    schedule_flush: Py<PyAny>,
}

impl Hooks {
    pub(crate) fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self {
            schedule_flush: object
                .getattr(intern!(object.py(), "schedule_flush"))?
                .unbind(),
            object: object.unbind(),
        })
    }

    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object.bind(py).clone()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.schedule_flush)
    }

    /// What is to be called for these wishes once nothing is locked any more.
    pub(crate) fn calls(&self, py: Python<'_>, wishes: Wishes) -> HookCalls {
        let others = Wishes {
            flush: false,
            ..wishes
        };
        HookCalls {
            schedule_flush: wishes.flush.then(|| self.schedule_flush.clone_ref(py)),
            others: (others != Wishes::default()).then(|| (self.object.clone_ref(py), others)),
        }
    }
}

/// Hooks to be called.
#[derive(Default)]
pub(crate) struct HookCalls {
    schedule_flush: Option<Py<PyAny>>,
    others: Option<(Py<PyAny>, Wishes)>,
}

impl HookCalls {
    /// Calls them all; fails only with what is to end the program.
    pub(crate) fn make(self, py: Python<'_>) -> PyResult<()> {
        let mut result = Ok(());
        if let Some(schedule) = self.schedule_flush {
            result = report(py, schedule.call0(py));
        }
        if let Some((object, wishes)) = self.others {
            let object = object.bind(py);
            if let Some(delay) = wishes.timer {
                let armed = object.call_method1(intern!(py, "arm_timer"), (delay.as_secs_f64(),));
                result = result.and(report(py, armed));
            }
            if wishes.watch_again {
                let watched = object.call_method0(intern!(py, "watch_again"));
                result = result.and(report(py, watched));
            }
            if let Some(on) = wishes.watch_writable {
                let watched = object.call_method1(intern!(py, "watch_writable"), (on,));
                result = result.and(report(py, watched));
            }
        }
        result
    }
}

/// An exception that nobody is there to catch goes where Python sends those, unless it is to end
/// the program.
pub(crate) fn report<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if is_exit(py, &error) => Err(error),
        Err(error) => {
            error.write_unraisable(py, None);
            Ok(())
        }
    }
}

/// SystemExit and KeyboardInterrupt, which event loops let through as well.
pub(crate) fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}
