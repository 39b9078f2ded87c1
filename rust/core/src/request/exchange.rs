//! Ordinary requests that the application answers (RFC 9114 §4.1): the body in, the response out.

use bytes::Bytes;
use pywt_wire::codes::{error, frame};
use pywt_wire::frame::encode_header;
use pywt_wire::qpack::Field;

use crate::connection::Connection;
use crate::error::{Error, StreamError};
use crate::event::{Action, Event};
use crate::request::fields::{
    check_local_fields, content_length, headers_frame, invalid, joined, ordinary_fields,
    RequestHead,
};
use crate::request::reader::Phase;
use crate::request::RequestStream;
use crate::stream::table::Halves;
use crate::StreamId;

const CONTENT_LENGTH: &[u8] = b"content-length";

/// What was sent of a response.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// Interim responses at most.
    Awaited {
        /// The response has no body, whatever the application writes (RFC 9110 §9.3.2).
        is_head: bool,
    },
    /// Its head, and so much of its body.
    Begun { sent: u64, length: Length },
    /// All of it.
    Ended,
}

/// How long a body has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Length {
    Any,
    Exactly(u64),
    /// It is not sent.
    Ignored,
}

/// Verbs.
impl Connection {
    /// Server: an interim response (100 to 199), any number of times, or the head of the final one,
    /// once. `fin`: there is no body.
    pub fn respond(
        &mut self,
        stream: StreamId,
        status: u16,
        headers: &[(Bytes, Bytes)],
        fin: bool,
    ) -> Result<(), Error> {
        let max = self.max_section();
        let (_, exchange) = self.exchange_mut(stream)?;
        let Exchange::Awaited { is_head } = *exchange else {
            return Err(Error::ResponseState(stream));
        };
        let is_interim = (100..200).contains(&status);
        if !(100..=599).contains(&status) || status == 101 || (is_interim && fin) {
            return Err(Error::Status(status));
        }
        check_local_fields(headers, &[])?;
        let lengths = headers.iter().filter(|(name, _)| name == CONTENT_LENGTH);
        let announced = content_length(lengths.map(|(_, value)| value.as_ref()))
            .map_err(|why| invalid("content-length", why))?;
        let length = match (status, announced) {
            _ if is_head => Length::Ignored,
            // RFC 9110 §15.3.5, §15.4.5: they have none, whatever length the others would have.
            (204 | 304, _) => Length::Exactly(0),
            (_, Some(length)) => Length::Exactly(length),
            (_, None) => Length::Any,
        };
        if let (true, Length::Exactly(length @ 1..)) = (fin, length) {
            return Err(Error::BodyTooShort { size: 0, length });
        }
        let code = status.to_string();
        // RFC 9110 §8.6: interim responses and 204 have no such field.
        let is_bare = is_interim || status == 204;
        let rest = headers
            .iter()
            .filter(|(name, _)| !(is_bare && name == CONTENT_LENGTH))
            .map(|(name, value)| (name.as_ref(), value.as_ref()));
        let fields = [(b":status".as_slice(), code.as_bytes())].into_iter();
        let data = headers_frame(fields.chain(rest), max)?;
        if !is_interim {
            self.set_exchange(stream, Exchange::Begun { sent: 0, length });
        }
        self.send_response(stream, data, fin);
        Ok(())
    }

    /// Server: what to write before the next `size` bytes of a response's body, of which `wanted`
    /// are to follow at least. `None`: this response has no body, and the bytes are dropped.
    pub fn body_frame(
        &mut self,
        stream: StreamId,
        size: u64,
        wanted: u64,
    ) -> Result<Option<Bytes>, Error> {
        let (_, exchange) = self.exchange_mut(stream)?;
        let Exchange::Begun { sent, length } = exchange else {
            return Err(Error::ResponseState(stream));
        };
        match *length {
            Length::Ignored => return Ok(None),
            Length::Exactly(length) if sent.saturating_add(wanted) > length => {
                let size = sent.saturating_add(wanted);
                return Err(Error::BodyTooLong { size, length });
            }
            Length::Exactly(_) | Length::Any => {}
        }
        *sent = sent.saturating_add(size);
        let mut head = Vec::with_capacity(MAX_HEAD);
        if size > 0 {
            encode_header(frame::DATA, size, &mut head);
        }
        Ok(Some(head.into()))
    }

    /// Server: the end of a response whose head was sent.
    pub fn finish_response(
        &mut self,
        stream: StreamId,
        trailers: &[(Bytes, Bytes)],
    ) -> Result<(), Error> {
        let max = self.max_section();
        let (_, exchange) = self.exchange_mut(stream)?;
        match *exchange {
            Exchange::Begun {
                sent,
                length: Length::Exactly(length),
            } if sent < length => return Err(Error::BodyTooShort { size: sent, length }),
            Exchange::Begun { .. } => {}
            Exchange::Awaited { .. } | Exchange::Ended => {
                return Err(Error::ResponseState(stream));
            }
        }
        let mut data = Bytes::new();
        if !trailers.is_empty() {
            check_local_fields(trailers, &["content-length"])?;
            let fields = trailers
                .iter()
                .map(|(name, value)| (name.as_ref(), value.as_ref()));
            data = headers_frame::<&[u8]>(fields, max)?;
        }
        self.send_response(stream, data, true);
        Ok(())
    }

    /// Server: ends a request in whatever state it is: a response without its end is reset with
    /// this code, and what of the request is to come is stopped. No event follows. After a complete
    /// response, and H3_NO_ERROR, the client loses nothing (RFC 9114 §4.1).
    pub fn end_request(&mut self, stream: StreamId, code: u64) {
        if self.request(stream).is_some_and(RequestStream::is_shown) {
            self.abort_request(stream, code);
        }
    }
}

impl Connection {
    /// The application gets a request to answer.
    pub(crate) fn show_request(&mut self, id: StreamId, head: RequestHead, fields: Vec<Field>) {
        let Some((_, request)) = self.request_mut(id) else {
            return;
        };
        request.due = None;
        request.reader.phase = Phase::Body {
            left: head.content_length,
            trailers_seen: false,
        };
        let is_head = head.method == "HEAD";
        request.exchange = Some(Exchange::Awaited { is_head });
        self.stats.requests += 1;
        let expects = joined(&head.fields, "expect");
        self.events.push_back(Event::RequestReceived {
            stream: id,
            method: head.method,
            scheme: head.scheme,
            authority: head.authority,
            path: head.path,
            headers: ordinary_fields(fields),
            expects_continue: expects.is_some_and(|value| value.eq_ignore_ascii_case(CONTINUE)),
        });
    }

    /// The application's request is about to end because of the client.
    pub(crate) fn tell_aborted(&mut self, id: StreamId, code: u64) {
        if self.request(id).is_some_and(RequestStream::is_shown) {
            self.events
                .push_back(Event::RequestAborted { stream: id, code });
        }
    }

    /// Datagrams for an ordinary request, and other faults that end it.
    pub(crate) fn fail_exchange(&mut self, id: StreamId, error: &StreamError) {
        self.tell_aborted(id, error.code());
        self.break_request(id, error.code());
    }

    /// Ends the requests of the application before a close of the connection: those without an
    /// answer get 503.
    pub(crate) fn end_exchanges(&mut self) {
        for id in self.streams.shown_requests() {
            let code = match self.respond(id, 503, &[], true) {
                Ok(()) => error::H3_NO_ERROR,
                Err(_) => error::H3_REQUEST_CANCELLED,
            };
            self.tell_aborted(id, code);
            self.abort_request(id, code);
        }
    }

    fn exchange_mut(&mut self, id: StreamId) -> Result<(&mut Halves, &mut Exchange), Error> {
        if self.is_closed() {
            return Err(Error::ConnectionClosed);
        }
        match self.request_mut(id) {
            Some((halves, request)) => match &mut request.exchange {
                Some(exchange) => Ok((halves, exchange)),
                None => Err(Error::RequestOver(id)),
            },
            None => Err(Error::RequestOver(id)),
        }
    }

    fn set_exchange(&mut self, id: StreamId, exchange: Exchange) {
        if let Some((_, request)) = self.request_mut(id) {
            request.exchange = Some(exchange);
        }
    }

    fn send_response(&mut self, id: StreamId, data: Bytes, fin: bool) {
        self.actions.push_back(Action::SendStream { id, data, fin });
        if fin {
            self.set_exchange(id, Exchange::Ended);
            if let Some((halves, _)) = self.request_mut(id) {
                halves.send = false;
            }
            self.settle(id);
        }
    }
}

/// RFC 9110 §10.1.1.
const CONTINUE: &str = "100-continue";
/// Type and length of a DATA frame.
const MAX_HEAD: usize = 9;
