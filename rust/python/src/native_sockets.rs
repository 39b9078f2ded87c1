//! Sockets that Python has opened, and what a worker of several on one port is given.

use std::net::UdpSocket;

use pyo3::prelude::*;
use pywt_endpoint::Reactor;
use pywt_quic::Socket;

/// A worker's place on a port, by the names of `pywebtransport._engine.base.WorkerPlace`. The file
/// descriptors are given away with it.
#[derive(FromPyObject)]
pub(crate) struct WorkerPlace {
    index: u8,
    count: u8,
    secret: Vec<u8>,
    inbox: i32,
    outboxes: Vec<i32>,
}

/// Takes over the bound socket behind a file descriptor (a handle on Windows), which its owner in
/// Python has let go of.
#[cfg(unix)]
pub(crate) fn udp_socket(fileno: i64) -> PyResult<UdpSocket> {
    owned(i32::try_from(fileno)?).map(UdpSocket::from)
}

#[cfg(unix)]
fn owned(fileno: i32) -> PyResult<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, OwnedFd};
    if fileno < 0 {
        return Err(pyo3::exceptions::PyValueError::new_err(
            "the socket is closed",
        ));
    }
    // SAFETY: `socket.detach()` has made it nobody's.
    Ok(unsafe { OwnedFd::from_raw_fd(fileno) })
}

#[cfg(windows)]
pub(crate) fn udp_socket(fileno: i64) -> PyResult<UdpSocket> {
    use std::os::windows::io::{FromRawSocket, RawSocket};
    // SAFETY: `socket.detach()` has made it nobody's.
    Ok(unsafe { UdpSocket::from_raw_socket(RawSocket::try_from(fileno)?) })
}

/// The reactor of a worker.
#[cfg(unix)]
pub(crate) fn worker_reactor(socket: Socket, place: WorkerPlace) -> PyResult<Reactor> {
    use crate::quic::configuration_error;
    use std::os::unix::net::UnixDatagram;

    let inbox = owned(place.inbox)?;
    let outboxes: Vec<_> = place.outboxes.into_iter().map(owned).collect();
    let outboxes = outboxes
        .into_iter()
        .map(|outbox| outbox.map(UnixDatagram::from))
        .collect::<PyResult<_>>()?;
    let worker = pywt_quic::Worker::new(place.index, place.count, &place.secret)
        .map_err(configuration_error)?;
    let fellows = pywt_endpoint::Fellows::new(inbox.into(), outboxes)?;
    Ok(Reactor::for_worker(socket, worker, fellows))
}

#[cfg(not(unix))]
pub(crate) fn worker_reactor(_socket: Socket, _place: WorkerPlace) -> PyResult<Reactor> {
    Err(pyo3::exceptions::PyNotImplementedError::new_err(
        "workers need Linux",
    ))
}
