//! The sessions of a connection: those that live, those that ended, and what both keep.

use std::collections::{BTreeSet, VecDeque};

use crate::dialect::Dialect;
use crate::error::StreamError;
use crate::limits::Limits;
use crate::map::IdMap;
use crate::session::flow::Flow;
use crate::session::{Session, State};
use crate::SessionId;

/// What a field or a protocol costs beside its text.
const STRING: usize = std::mem::size_of::<String>();

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// Boxed, because the table has free places.
    live: IdMap<Box<Session>>,
    /// Those of them that wait for SETTINGS of the peer, in the order of their requests.
    unsettled: BTreeSet<SessionId>,
    /// Ids of sessions that ended, the latest last.
    ended: VecDeque<SessionId>,
    /// What requests keep that wait for SETTINGS or for their answer; the sum of their weights.
    waiting_bytes: usize,
    /// Sessions that may owe the peer flow-control capsules.
    dirty: Vec<SessionId>,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.live.contains_key(&id)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.live.get(&id).map(Box::as_ref)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.live.get_mut(&id).map(Box::as_mut)
    }

    pub(crate) fn flow_mut(&mut self, id: SessionId) -> Option<&mut Flow> {
        self.live.get_mut(&id)?.flow.as_deref_mut()
    }

    /// The live sessions of which `which` is true, in the order of their requests.
    pub(crate) fn ids(&self, which: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        let mut ids: Vec<_> = self
            .live
            .iter()
            .filter(|(_, session)| which(session))
            .map(|(&id, _)| id)
            .collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.live.iter().map(|(&id, session)| (id, &**session))
    }

    /// The sessions that wait for SETTINGS of the peer, in the order of their requests.
    pub(crate) fn unsettled(&self) -> Vec<SessionId> {
        self.unsettled.iter().copied().collect()
    }

    pub(crate) fn first_unsettled(&self) -> Option<SessionId> {
        self.unsettled.first().copied()
    }

    /// How many do not wait for SETTINGS of the peer any more.
    pub(crate) fn settled(&self) -> usize {
        self.live.len() - self.unsettled.len()
    }

    /// A request that waits for SETTINGS of the peer.
    pub(crate) fn insert(&mut self, id: SessionId, state: State) {
        self.unsettled.insert(id);
        self.live.insert(id, Box::new(Session::new(state)));
    }

    /// A request has waited for SETTINGS: its state before.
    pub(crate) fn settle(
        &mut self,
        id: SessionId,
        dialect: Dialect,
        state: State,
    ) -> Option<State> {
        let session = self.live.get_mut(&id)?;
        self.unsettled.remove(&id);
        session.dialect = Some(dialect);
        Some(std::mem::replace(&mut session.state, state))
    }

    /// A session is no more; its id is remembered.
    pub(crate) fn remove(&mut self, id: SessionId, limits: &Limits) -> Option<Session> {
        let session = self.live.remove(&id)?;
        self.unsettled.remove(&id);
        self.waiting_bytes -= session.weight;
        self.remember_ended(id, limits);
        Some(*session)
    }

    /// Late streams and datagrams of this session belong to nothing.
    pub(crate) fn remember_ended(&mut self, id: SessionId, limits: &Limits) {
        self.ended.push_back(id);
        while self.ended.len() > limits.max_closed_sessions {
            self.ended.pop_front();
        }
    }

    pub(crate) fn has_ended(&self, id: SessionId) -> bool {
        self.ended.contains(&id)
    }

    /// Keeps bytes of a CONNECT stream unread until the request is accepted.
    pub(crate) fn keep(
        &mut self,
        id: SessionId,
        data: &[u8],
        limits: &Limits,
    ) -> Result<(), StreamError> {
        let Some(session) = self.live.get_mut(&id) else {
            return Ok(());
        };
        if session.unread.len() + data.len() > limits.max_early_capsule_bytes {
            return Err(StreamError::Overload("capsules before the answer"));
        }
        session.unread.extend_from_slice(data);
        session.weight += data.len();
        self.waiting_bytes += data.len();
        self.check_waiting(limits)
    }

    /// Counts what a waiting request keeps, now that its state is another.
    pub(crate) fn weigh(&mut self, id: SessionId, limits: &Limits) -> Result<(), StreamError> {
        let Some(session) = self.live.get_mut(&id) else {
            return Ok(());
        };
        let text = match &session.state {
            State::Unsettled(head) => {
                let cost = |(name, value): &(String, String)| name.len() + value.len() + 2 * STRING;
                head.fields.iter().map(cost).sum()
            }
            State::Requested { protocols, .. } => {
                protocols.iter().map(|text| text.len() + STRING).sum()
            }
            State::Queued(_) | State::Asked(_) | State::Open => 0,
        };
        self.waiting_bytes -= session.weight;
        session.weight = text + session.unread.len();
        self.waiting_bytes += session.weight;
        self.check_waiting(limits)
    }

    fn check_waiting(&self, limits: &Limits) -> Result<(), StreamError> {
        match self.waiting_bytes > limits.max_waiting_bytes {
            true => Err(StreamError::Overload("requests that wait for their answer")),
            false => Ok(()),
        }
    }

    /// A request was accepted: what it kept unread.
    pub(crate) fn take_unread(&mut self, id: SessionId) -> Vec<u8> {
        let Some(session) = self.live.get_mut(&id) else {
            return Vec::new();
        };
        self.waiting_bytes -= std::mem::take(&mut session.weight);
        std::mem::take(&mut session.unread)
    }

    /// Queues a session for the flow-control capsules of this drain.
    pub(crate) fn mark_dirty(&mut self, id: SessionId) {
        if let Some(session) = self.live.get_mut(&id) {
            if !std::mem::replace(&mut session.dirty, true) {
                self.dirty.push(id);
            }
        }
    }

    /// A session that may owe capsules.
    pub(crate) fn pop_dirty(&mut self) -> Option<SessionId> {
        let id = self.dirty.pop()?;
        if let Some(session) = self.live.get_mut(&id) {
            session.dirty = false;
        }
        Some(id)
    }
}
