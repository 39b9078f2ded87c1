//! The table of streams: which there are, what each is, and which of its halves are open.

use crate::classify::Head;
use crate::early::{Held, Refused};
use crate::map::{IdMap, Seen};
use crate::request::RequestStream;
use crate::stream::WtStream;
use crate::{Dir, StreamId};

/// The halves of a stream that are open. Receiving ends with FIN or reset from the peer, also
/// after STOP_SENDING; sending with our FIN or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Halves {
    pub(crate) recv: bool,
    pub(crate) send: bool,
}

impl Halves {
    /// Those of a stream that the peer has just opened.
    pub(crate) fn of_peer(id: StreamId) -> Self {
        Self {
            recv: true,
            send: dir_of(id) == Dir::Bidi,
        }
    }

    /// Those of a stream that we have just opened.
    pub(crate) fn of_ours(id: StreamId) -> Self {
        Self {
            recv: dir_of(id) == Dir::Bidi,
            send: true,
        }
    }

    fn are_over(self) -> bool {
        !self.recv && !self.send
    }
}

/// The direction that a stream id has.
pub(crate) fn dir_of(id: StreamId) -> Dir {
    if id & 2 == 0 {
        Dir::Bidi
    } else {
        Dir::Uni
    }
}

/// One QUIC stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) halves: Halves,
    pub(crate) kind: Kind,
}

/// What a stream is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// The peer's control stream.
    Control,
    /// Its first bytes have not all arrived.
    Head(Head),
    /// A WebTransport stream whose session is not established.
    Held(Box<Held>),
    /// Our control stream.
    OwnControl,
    QpackDecoder,
    QpackEncoder,
    /// A WebTransport stream that was refused before its session was established; what it carries
    /// still counts for the session.
    Refused(Refused),
    /// A stream of HTTP/3 frames.
    Request(Box<RequestStream>),
    /// A WebTransport stream of an established session.
    Session(WtStream),
}

impl Entry {
    /// Whether nothing can happen about the stream any more.
    fn is_over(&self) -> bool {
        self.halves.are_over()
            && match &self.kind {
                Kind::Held(_) => false,
                Kind::Request(request) => !request.is_waiting(),
                Kind::Session(stream) => !stream.has_unread(),
                _ => true,
            }
    }
}

/// Every stream that is not over, and which of the peer's were ever seen. Ids are never used
/// twice, so what arrives for a stream that was seen and has no entry is too late.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    table: IdMap<Entry>,
    seen_bidi: Seen,
    seen_uni: Seen,
    /// Entries that are streams of frames.
    requests: usize,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests
    }

    /// Requests that the application has, in order.
    pub(crate) fn shown_requests(&self) -> Vec<StreamId> {
        let is_shown = |kind: &Kind| matches!(kind, Kind::Request(request) if request.is_shown());
        let shown = self.table.iter().filter(|(_, entry)| is_shown(&entry.kind));
        let mut ids: Vec<_> = shown.map(|(&id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn contains(&self, id: StreamId) -> bool {
        self.table.contains_key(&id)
    }

    pub(crate) fn get(&self, id: StreamId) -> Option<&Entry> {
        self.table.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: StreamId) -> Option<&mut Entry> {
        self.table.get_mut(&id)
    }

    pub(crate) fn kind(&self, id: StreamId) -> Option<&Kind> {
        self.table.get(&id).map(|entry| &entry.kind)
    }

    /// Whether this is the first that is heard of a stream of the peer.
    pub(crate) fn meet(&mut self, id: StreamId) -> bool {
        match dir_of(id) {
            Dir::Bidi => self.seen_bidi.insert(id),
            Dir::Uni => self.seen_uni.insert(id),
        }
    }

    /// Adds a stream, or says what one turned out to be.
    pub(crate) fn insert(&mut self, id: StreamId, halves: Halves, kind: Kind) {
        self.requests += usize::from(matches!(kind, Kind::Request(_)));
        let before = self.table.insert(id, Entry { halves, kind });
        self.left(before.as_ref());
    }

    pub(crate) fn remove(&mut self, id: StreamId) -> Option<Entry> {
        let entry = self.table.remove(&id);
        self.left(entry.as_ref());
        entry
    }

    /// Removes a stream that is over.
    pub(crate) fn remove_if_over(&mut self, id: StreamId) -> Option<Entry> {
        match self.get(id)?.is_over() {
            true => self.remove(id),
            false => None,
        }
    }

    fn left(&mut self, entry: Option<&Entry>) {
        let is_request = |entry: &Entry| matches!(entry.kind, Kind::Request(_));
        self.requests -= usize::from(entry.is_some_and(is_request));
    }
}
