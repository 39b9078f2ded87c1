//! What the core tells, as state of the endpoint and as notifications of the application.

use bytes::Bytes;
use pywt_core::{ClosedBy, Event as CoreEvent};

use crate::connection::Connection;
use crate::datagram::kept;
use crate::stream::Owner;
use crate::{Arrivals, Notification};

impl Connection {
    pub(crate) fn take_events(&mut self) -> bool {
        let mut worked = false;
        while let Some(event) = self.core.poll_event() {
            worked = true;
            self.on_core_event(event);
        }
        worked
    }

    fn on_core_event(&mut self, event: CoreEvent) {
        let notification = match event {
            CoreEvent::DatagramReceived { session, data } => {
                let Some(entry) = self.sessions.get_mut(&session) else {
                    return;
                };
                let limits = self.options.incoming_datagrams();
                let dropped = entry.datagrams.push(kept(data), limits);
                entry.datagrams_dropped += dropped;
                self.drops.receive_queue += dropped;
                // Who takes none at all is not waited for.
                entry.datagrams_untouched = entry.datagrams_untouched.saturating_add(1);
                if entry.datagrams_untouched <= limits.count {
                    let arrivals = entry.datagrams.arrivals(limits);
                    if arrivals == Arrivals::Crowd {
                        self.crowded = Some(session);
                    }
                    self.arrivals = self.arrivals.max(arrivals);
                }
                if !std::mem::take(&mut entry.datagram_wanted) {
                    return;
                }
                Notification::DatagramsReadable(session)
            }
            CoreEvent::RequestReceived {
                stream,
                method,
                scheme,
                authority,
                path,
                headers,
                expects_continue,
            } => {
                self.had_request = true;
                self.patience_until = None;
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.owner = Owner::Request;
                }
                Notification::RequestReceived {
                    stream,
                    method,
                    scheme,
                    authority,
                    path,
                    headers,
                    expects_continue,
                }
            }
            CoreEvent::RequestTrailers { stream, fields } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.trailers_untold = true;
                }
                Notification::RequestTrailers { stream, fields }
            }
            CoreEvent::RequestAborted { stream, code } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    (entry.receiving, entry.sending) = (false, false);
                    (entry.reset_untold, entry.stop_untold) = (true, true);
                    entry.head = Bytes::new();
                    entry.rest.clear();
                }
                Notification::RequestAborted { stream, code }
            }
            CoreEvent::SessionRequested {
                session,
                authority,
                path,
                headers,
                protocols,
                dialect,
                ..
            } => {
                self.had_session = true;
                self.patience_until = None;
                self.sessions.insert(session, Box::default());
                Notification::SessionRequested {
                    session,
                    authority,
                    path,
                    headers,
                    protocols,
                    dialect,
                }
            }
            CoreEvent::SessionEstablished {
                session,
                protocol,
                headers,
                ..
            } => Notification::SessionEstablished {
                session,
                protocol,
                headers,
            },
            CoreEvent::SessionRejected {
                session,
                status,
                headers,
                reason,
                ..
            } => {
                self.forget_session(session);
                Notification::SessionRejected {
                    session,
                    status,
                    headers,
                    reason,
                }
            }
            CoreEvent::SessionDraining { session } => Notification::SessionDraining(session),
            CoreEvent::SessionClosed {
                session,
                code,
                reason,
                by,
                error,
            } => {
                self.forget_session(session);
                self.closed_first = by == ClosedBy::Local;
                Notification::SessionClosed {
                    session,
                    code,
                    reason,
                    by,
                    error,
                }
            }
            CoreEvent::SessionWritable { session } => return self.wake_writers(session),
            CoreEvent::StreamData { stream, data, fin } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    if entry.owner != Owner::Request {
                        entry.head = data;
                    } else if !data.is_empty() {
                        entry.rest.push_back(data);
                    }
                    entry.ended |= fin;
                    if let (true, Owner::Session(session)) = (fin, entry.owner) {
                        if let Some(session) = self.sessions.get_mut(&session) {
                            session.unended.insert(stream);
                        }
                    }
                    if std::mem::take(&mut entry.read_wanted) {
                        self.notifications
                            .push(Notification::StreamReadable(stream));
                    }
                }
                return;
            }
            CoreEvent::StreamOpened {
                session, stream, ..
            } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.owner = Owner::Session(session);
                }
                Notification::StreamOpened { session, stream }
            }
            CoreEvent::StreamReset { stream, code, raw } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    if entry.is_left {
                        // It had come whole.
                        return;
                    }
                    entry.receiving = false;
                    entry.reset_untold = true;
                    // This is what it was to be told of.
                    entry.read_wanted = false;
                    entry.head = Bytes::new();
                }
                Notification::StreamReset { stream, code, raw }
            }
            CoreEvent::StreamStopped { stream, code, raw } => {
                if let Some(entry) = self.streams.get_mut(&stream) {
                    entry.sending = false;
                    entry.stop_untold = true;
                }
                Notification::StreamStopped { stream, code, raw }
            }
            CoreEvent::StreamsAvailable { session, dir } => {
                let wanted = self
                    .sessions
                    .get_mut(&session)
                    .is_some_and(|entry| std::mem::take(&mut entry.stream_wanted[dir as usize]));
                if !wanted {
                    return;
                }
                Notification::StreamsAvailable { session, dir }
            }
            _ => return,
        };
        self.notifications.push(notification);
    }

    /// The application is being told. Reads and writes go by it only from now on, so that nobody
    /// takes a reset for an end; whoever tried meanwhile is woken.
    pub(crate) fn told(&mut self, notification: &Notification) {
        match *notification {
            Notification::StreamReset { stream: id, .. } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.reset_untold = false;
                    if std::mem::take(&mut stream.read_wanted) {
                        self.notifications.push(Notification::StreamReadable(id));
                    }
                }
                self.forget_if_over(id);
            }
            Notification::RequestAborted { stream: id, .. } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    (stream.reset_untold, stream.stop_untold) = (false, false);
                }
                self.forget_if_over(id);
            }
            Notification::RequestTrailers { stream: id, .. } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.trailers_untold = false;
                    if std::mem::take(&mut stream.read_wanted) {
                        self.notifications.push(Notification::StreamReadable(id));
                    }
                }
            }
            Notification::StreamStopped { stream: id, .. } => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.stop_untold = false;
                    if std::mem::take(&mut stream.write_wanted) {
                        self.notifications.push(Notification::StreamWritable(id));
                    }
                }
                self.forget_if_over(id);
            }
            _ => {}
        }
    }
}
