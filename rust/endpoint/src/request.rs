//! Ordinary HTTP requests: the calls on them.

use std::time::Instant;

use bytes::Bytes;
use pywt_core::StreamId;
use pywt_quic::ReadState;

use crate::connection::Connection;
use crate::stream::{Payload, Read};
use crate::Error;

impl Connection {
    /// Server: an interim response, or the head of the final one. `fin`: there is no body.
    pub fn respond(
        &mut self,
        id: StreamId,
        status: u16,
        headers: &[(Bytes, Bytes)],
        fin: bool,
        now: Instant,
    ) -> Result<(), Error> {
        self.check_response(id)?;
        self.core.respond(id, status, headers, fin)?;
        if fin {
            self.unacknowledged.insert(id);
        }
        self.settle(now);
        Ok(())
    }

    /// Server: the end of a response.
    pub fn finish_response(
        &mut self,
        id: StreamId,
        trailers: &[(Bytes, Bytes)],
        now: Instant,
    ) -> Result<(), Error> {
        self.check_response(id)?;
        self.core.finish_response(id, trailers)?;
        self.unacknowledged.insert(id);
        self.settle(now);
        Ok(())
    }

    /// Server: ends a request in any state, with an HTTP/3 code for what is cut off.
    pub fn abort_request(&mut self, id: StreamId, code: u64, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        self.core.end_request(id, code);
        self.settle(now);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.receiving = false;
            stream.head = Bytes::new();
            stream.rest.clear();
            (stream.reset_untold, stream.stop_untold) = (false, false);
            stream.trailers_untold = false;
        }
        self.forget_if_over(id);
        Ok(())
    }

    fn check_response(&self, id: StreamId) -> Result<(), Error> {
        self.check_alive()?;
        match self.streams.get(&id) {
            Some(stream) if stream.sending => Ok(()),
            _ => Err(Error::StreamFinished(id)),
        }
    }

    /// Moves up to `max` bytes of a request's body into `chunks`. What is not read stays in QUIC,
    /// but for what came in one step with it.
    pub(crate) fn request_read(
        &mut self,
        id: StreamId,
        max: usize,
        chunks: &mut Vec<Bytes>,
        now: Instant,
    ) -> Read {
        let time = self.time(now);
        let mut raw = Vec::new();
        let mut taken = 0;
        let mut is_blocked = false;
        let is_ended = loop {
            let Some(stream) = self.streams.get_mut(&id) else {
                break true;
            };
            if !stream.receiving {
                // That it is no ordinary end comes first.
                break !stream.reset_untold;
            }
            taken += stream.take_kept(max - taken, chunks);
            if taken >= max || is_blocked || stream.ended {
                break stream.ended && !stream.trailers_untold && stream.rest.is_empty();
            }
            let (_, state) = self.quic.read(id, BODY_STEP.min(max - taken), &mut raw);
            for data in raw.drain(..) {
                self.core.handle_stream_data(id, data, false, time);
            }
            match state {
                ReadState::More => {}
                ReadState::Blocked => is_blocked = true,
                ReadState::Finished | ReadState::Unknown => {
                    is_blocked = true;
                    self.core.handle_stream_data(id, Bytes::new(), true, time);
                }
                ReadState::Reset(reset) => {
                    is_blocked = true;
                    self.core
                        .handle_stream_reset(id, reset.code, reset.final_size, time);
                }
            }
            self.take_events();
        };
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.receiving &= !is_ended;
            stream.read_wanted = taken < max && !is_ended;
        }
        if is_ended {
            self.forget_if_over(id);
        }
        self.settle(now);
        self.wants_transmit |= self.quic.take_flow_control();
        Read::of(taken, is_ended)
    }

    /// Hands the front of `data` to QUIC in DATA frames and returns how much was taken: at most one
    /// frame more than QUIC has room for.
    pub(crate) fn request_write(
        &mut self,
        id: StreamId,
        mut data: Payload<'_>,
    ) -> Result<usize, Error> {
        let total = data.len();
        let mut written = 0;
        while written < total {
            let stream = self.streams.get_mut(&id).ok_or(Error::StreamFinished(id))?;
            if !stream.sending && !stream.stop_untold {
                return Err(Error::StreamFinished(id));
            }
            if !stream.sending || !stream.unsent.is_empty() {
                stream.write_wanted = true;
                break;
            }
            let left = total - written;
            let step = left.min(BODY_STEP);
            let Some(head) = self.core.body_frame(id, step as u64, left as u64)? else {
                return Ok(total);
            };
            match &mut data {
                Payload::Slice(data) => {
                    let (part, rest) = data.split_at_checked(step).unwrap_or((data, &[]));
                    stream.queue([head.as_ref(), part].concat().into());
                    *data = rest;
                }
                Payload::Shared(data) => {
                    stream.queue(head);
                    stream.queue(data.split_to(step));
                }
            }
            written += step;
            if let Some(priority) = stream.wrote(step) {
                self.quic.set_priority(id, priority);
            }
            self.send_unsent(id);
        }
        Ok(written)
    }
}

/// A body is read, and sent, in steps of this size.
const BODY_STEP: usize = 64 * 1024;
