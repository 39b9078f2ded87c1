//! What an endpoint and its event loop owe each other: one state, which asks for nothing twice.

use std::time::{Duration, Instant};

use crate::{Flushed, Notification};

/// What the event loop is to do now that something was done with the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Call [`crate::Reactor::on_flush`] when those who were woken have had their turn.
    pub flush: bool,
    /// Call [`crate::Reactor::on_timer`] after that long, and forget the timer before.
    pub timer: Option<Duration>,
    /// Watch the socket anew: some event loops stop when it had an error.
    pub watch_again: bool,
    /// Begin or end to call [`crate::Reactor::on_flush`] when the socket has room.
    pub watch_writable: Option<bool>,
}

/// Somebody who tells the application what it should know by now; what that brings about is told
/// in the next turn.
#[derive(Debug)]
pub struct Telling {
    left: usize,
    until: Instant,
    /// One more is told whatever the clock says.
    goes_on: bool,
}

/// Where the event loop is, as the endpoint sees it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// A flush was wished for and has not come.
    flush_asked: bool,
    /// How many whole messages were given to send since the event loop last called.
    messages: u32,
    /// It was more than one when there last were any.
    is_busy: bool,
    /// The application is being told; whoever tells it asks for a flush.
    telling: bool,
    /// The budget was spent before everything was told.
    is_behind: bool,
    /// The socket had no room; the event loop says when it has.
    blocked: bool,
    writable_watched: bool,
    /// For when the timer is set.
    armed: Option<Instant>,
    /// What this call of the event loop does ends by then, about.
    until: Option<Instant>,
}

/// What [`Turn::wishes`] goes by.
pub(crate) struct Facts {
    pub(crate) erred: bool,
    pub(crate) notifications: usize,
    pub(crate) wants_turn: bool,
    pub(crate) wants_transmit: bool,
    pub(crate) deadline: Option<Instant>,
}

impl Turn {
    /// The event loop calls in. False: take nothing more, tell what has come.
    pub(crate) fn begin(&mut self, now: Instant) -> bool {
        self.until = Some(now + TURN_BUDGET);
        match std::mem::take(&mut self.messages) {
            0 => {}
            messages => self.is_busy = messages > 1,
        }
        !self.is_behind
    }

    /// The flush that was wished for has come.
    pub(crate) fn flush_came(&mut self) {
        self.flush_asked = false;
    }

    /// The timer that was wished for has fired.
    pub(crate) fn timer_fired(&mut self) {
        self.armed = None;
    }

    /// Somebody wants to tell `notifications`; `None`: nothing to tell, or somebody tells already.
    pub(crate) fn begin_telling(&mut self, notifications: usize, now: Instant) -> Option<Telling> {
        if notifications == 0 || std::mem::replace(&mut self.telling, true) {
            return None;
        }
        self.is_behind = false;
        Some(Telling {
            left: notifications,
            until: self.until.unwrap_or(now),
            goes_on: true,
        })
    }

    /// Whether the next one is to be told in this turn.
    pub(crate) fn may_tell(
        &mut self,
        telling: &mut Telling,
        clock: impl FnOnce() -> Instant,
    ) -> bool {
        let Some(left) = telling.left.checked_sub(1) else {
            return false;
        };
        if !std::mem::take(&mut telling.goes_on) && clock() >= telling.until {
            self.is_behind = true;
            return false;
        }
        telling.left = left;
        true
    }

    /// This is told next. The end of a session is told in one go with the ends of its streams, so
    /// that nobody takes them for the peer's resets.
    pub(crate) fn tells(telling: &mut Telling, notification: &Notification) {
        telling.goes_on = matches!(
            notification,
            Notification::StreamReset { .. } | Notification::StreamStopped { .. }
        );
    }

    /// Nobody tells any longer, whatever the reason.
    pub(crate) fn end_telling(&mut self) {
        self.telling = false;
    }

    /// A whole message was given to send. The first of a turn leaves at once, so that an answer
    /// does not wait for the turn's end; those after it share their packets and system calls. Where
    /// there were several the last time, the first shares them, too.
    pub(crate) fn may_send_at_once(&mut self) -> bool {
        self.messages = self.messages.saturating_add(1);
        self.messages == 1 && !(self.is_busy || self.flush_asked || self.telling)
    }

    /// How long to send what is ready at `now`: to the end of the turn, and long enough to get on
    /// when others have had most of it.
    pub(crate) fn may_send_until(&self, now: Instant) -> Instant {
        let least = now + SENDING_BUDGET;
        self.until.map_or(least, |until| until.max(least))
    }

    pub(crate) fn sent(&mut self, flushed: Flushed) {
        self.blocked = flushed == Flushed::Blocked;
    }

    /// Whether [`Self::wishes`] would have nothing to ask for that the flush which is to come does
    /// not bring about: so it is after all but the first of many writes in a turn.
    pub(crate) fn is_content(&self) -> bool {
        self.flush_asked && self.blocked == self.writable_watched
    }

    /// What to ask of the event loop that it was not asked before.
    pub(crate) fn wishes(&mut self, facts: &Facts, clock: impl FnOnce() -> Instant) -> Wishes {
        let mut wishes = Wishes {
            watch_again: facts.erred,
            ..Wishes::default()
        };
        let wants_flush =
            facts.notifications > 0 || facts.wants_turn || (facts.wants_transmit && !self.blocked);
        if wants_flush && !self.flush_asked && !self.telling {
            self.flush_asked = true;
            wishes.flush = true;
        }
        if self.blocked != self.writable_watched {
            self.writable_watched = self.blocked;
            wishes.watch_writable = Some(self.blocked);
        }
        if let Some(deadline) = facts.deadline {
            // Only an earlier deadline needs the loop; a later one is found when the timer fires.
            // Event loops count milliseconds, and some fire at once what is due in less than one:
            // rounded up, a timer never fires in vain.
            if self
                .armed
                .is_none_or(|armed| deadline + TIMER_PRECISION < armed)
            {
                self.armed = Some(deadline);
                let delay = deadline.saturating_duration_since(clock());
                let millis = u64::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
                wishes.timer = Some(Duration::from_millis(millis).max(TIMER_PRECISION));
            }
        }
        wishes
    }
}

/// How long one call of the event loop may hold it, about: what is left waits for the next turn,
/// after everybody else's.
pub(crate) const TURN_BUDGET: Duration = Duration::from_millis(1);
/// The part of it that sending has at least.
const SENDING_BUDGET: Duration = Duration::from_micros(500);
/// How exactly an event loop's timer fires.
const TIMER_PRECISION: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Facts = Facts {
        erred: false,
        notifications: 0,
        wants_turn: false,
        wants_transmit: false,
        deadline: None,
    };

    fn wishes(turn: &mut Turn, facts: &Facts) -> Wishes {
        turn.wishes(facts, || panic!("no timer, no clock"))
    }

    #[test]
    fn nothing_to_do_is_nothing_to_wish() {
        assert_eq!(wishes(&mut Turn::default(), &IDLE), Wishes::default());
    }

    #[test]
    fn a_flush_is_asked_for_once_until_it_comes() {
        let mut turn = Turn::default();
        let busy = Facts {
            wants_transmit: true,
            ..IDLE
        };
        assert!(wishes(&mut turn, &busy).flush);
        assert!(!wishes(&mut turn, &busy).flush);
        turn.flush_came();
        assert!(wishes(&mut turn, &busy).flush);
    }

    #[test]
    fn a_blocked_socket_is_waited_for_instead_of_flushed() {
        let mut turn = Turn::default();
        turn.sent(Flushed::Blocked);
        let busy = Facts {
            wants_transmit: true,
            ..IDLE
        };
        let wished = wishes(&mut turn, &busy);
        assert_eq!((wished.flush, wished.watch_writable), (false, Some(true)));
        assert_eq!(wishes(&mut turn, &busy), Wishes::default());
        turn.flush_came();
        turn.sent(Flushed::Done);
        assert_eq!(wishes(&mut turn, &IDLE).watch_writable, Some(false));
        // There is something to tell even while nothing can be sent.
        turn.sent(Flushed::Blocked);
        for facts in [
            Facts {
                notifications: 1,
                ..IDLE
            },
            Facts {
                wants_turn: true,
                ..IDLE
            },
        ] {
            assert!(wishes(&mut turn, &facts).flush);
            turn.flush_came();
        }
    }

    #[test]
    fn one_tells_at_a_time_and_asks_for_the_flush() {
        let now = Instant::now();
        let mut turn = Turn::default();
        let told = Facts {
            notifications: 2,
            ..IDLE
        };
        assert!(turn.begin(now));
        assert!(turn.begin_telling(0, now).is_none());
        let mut telling = turn.begin_telling(2, now).unwrap();
        // A sink that calls back neither tells nor asks.
        assert!(turn.begin_telling(2, now).is_none());
        assert!(!wishes(&mut turn, &told).flush);
        assert!(!turn.may_send_at_once());
        assert!(turn.may_tell(&mut telling, || now));
        assert!(turn.may_tell(&mut telling, || now));
        // What came meanwhile is told in the next turn.
        assert!(!turn.may_tell(&mut telling, || now));
        turn.end_telling();
        assert!(wishes(&mut turn, &told).flush);
        assert!(turn.begin(now));
    }

    #[test]
    fn whoever_tells_stops_when_the_budget_is_spent_and_nothing_more_is_taken_until_all_is_told() {
        let now = Instant::now();
        let late = now + TURN_BUDGET;
        let mut turn = Turn::default();
        assert!(turn.begin(now));
        let mut telling = turn.begin_telling(4, now).unwrap();
        // The first is always told, or nobody would ever get on.
        assert!(turn.may_tell(&mut telling, || late));
        assert!(turn.may_tell(&mut telling, || late - Duration::from_micros(1)));
        Turn::tells(
            &mut telling,
            &Notification::StreamReset {
                stream: 0,
                code: None,
                raw: 0,
            },
        );
        assert!(turn.may_tell(&mut telling, || late));
        Turn::tells(&mut telling, &Notification::StreamReadable(0));
        assert!(!turn.may_tell(&mut telling, || late));
        turn.end_telling();
        assert!(!turn.begin(late));
        let mut telling = turn.begin_telling(1, late).unwrap();
        assert!(turn.may_tell(&mut telling, || late));
        turn.end_telling();
        assert!(turn.begin(late));
    }

    #[test]
    fn the_first_message_of_a_turn_leaves_at_once_and_no_other() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert!(turn.may_send_at_once());
        turn.begin(now);
        assert!(turn.may_send_at_once());
        assert!(!turn.may_send_at_once());
        turn.begin(now);
        turn.flush_asked = true;
        assert!(!turn.may_send_at_once());
    }

    #[test]
    fn sending_has_what_is_left_of_the_turn_and_half_of_one_at_least() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert_eq!(turn.may_send_until(now), now + SENDING_BUDGET);
        turn.begin(now);
        assert_eq!(turn.may_send_until(now), now + TURN_BUDGET);
        let late = now + TURN_BUDGET;
        assert_eq!(turn.may_send_until(late), late + SENDING_BUDGET);
    }

    #[test]
    fn where_several_messages_come_a_turn_none_leaves_ahead_of_the_others() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert!(turn.may_send_at_once());
        assert!(!turn.may_send_at_once());
        for _ in 0..2 {
            // Turns without any message say nothing.
            turn.begin(now);
            turn.begin(now);
            assert!(!turn.may_send_at_once());
            assert!(!turn.may_send_at_once());
        }
        turn.begin(now);
        assert!(!turn.may_send_at_once());
        turn.begin(now);
        assert!(turn.may_send_at_once());
    }

    #[test]
    fn until_a_flush_has_come_nothing_else_need_be_asked_for() {
        let mut turn = Turn::default();
        assert!(!turn.is_content());
        let wants = Facts {
            wants_transmit: true,
            ..IDLE
        };
        assert!(wishes(&mut turn, &wants).flush);
        assert!(turn.is_content());
        // That the socket has no room is for the event loop to know at once.
        turn.sent(Flushed::Blocked);
        assert!(!turn.is_content());
        assert_eq!(wishes(&mut turn, &wants).watch_writable, Some(true));
        assert!(turn.is_content());
        turn.flush_came();
        assert!(!turn.is_content());
    }

    #[test]
    fn a_timer_is_set_for_an_earlier_deadline_only_and_never_fires_early() {
        let now = Instant::now();
        let at = |millis: u64| Facts {
            deadline: Some(now + Duration::from_micros(millis * 1_000 + 1)),
            ..IDLE
        };
        let mut turn = Turn::default();
        let timer = |turn: &mut Turn, millis| turn.wishes(&at(millis), || now).timer;
        assert_eq!(timer(&mut turn, 10), Some(Duration::from_millis(11)));
        assert_eq!(timer(&mut turn, 10), None);
        assert_eq!(timer(&mut turn, 20), None);
        assert_eq!(timer(&mut turn, 5), Some(Duration::from_millis(6)));
        turn.timer_fired();
        assert_eq!(timer(&mut turn, 20), Some(Duration::from_millis(21)));
        let mut turn = Turn::default();
        let past = Facts {
            deadline: Some(now),
            ..IDLE
        };
        let wished = turn.wishes(&past, || now + Duration::from_secs(1));
        assert_eq!(wished.timer, Some(TIMER_PRECISION));
    }
}
