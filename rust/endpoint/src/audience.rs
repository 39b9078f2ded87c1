//! Who listens to a connection, what came before anybody did, and what is known after its end.

use crate::{Epilogue, Notification};

/// One connection's listener of type `L`, which is let go when it has heard the end.
#[derive(Debug)]
pub struct Audience<L> {
    listener: Option<L>,
    /// What came before there was a listener.
    early: Vec<Notification>,
    is_closed: bool,
    epilogue: Option<Box<Epilogue>>,
}

impl<L> Default for Audience<L> {
    fn default() -> Self {
        Self {
            listener: None,
            early: Vec::new(),
            is_closed: false,
            epilogue: None,
        }
    }
}

impl<L: Clone> Audience<L> {
    /// Takes a notification and says who is to hear it now; it is kept when nobody listens yet.
    pub fn hear(&mut self, notification: Notification) -> Option<(L, Notification)> {
        let listener = if let Notification::Closed(_, epilogue) = &notification {
            self.is_closed = true;
            self.epilogue.clone_from(epilogue);
            self.listener.take()
        } else {
            self.listener.clone()
        };
        match listener {
            Some(listener) => Some((listener, notification)),
            None => {
                self.early.push(notification);
                None
            }
        }
    }

    /// From now on `listener` hears; what is returned it has missed, in order. Kept only while
    /// something may follow. The second value is the listener before, for the caller to drop.
    #[must_use]
    pub fn attach(&mut self, listener: &L) -> (Vec<Notification>, Option<L>) {
        let before = if self.is_closed {
            None
        } else {
            self.listener.replace(listener.clone())
        };
        (std::mem::take(&mut self.early), before)
    }

    /// Whether the end was told, to the listener or to those who would be.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The last facts, once the connection has ended.
    pub fn epilogue(&self) -> Option<&Epilogue> {
        self.epilogue.as_deref()
    }

    /// The listener, for the garbage collector.
    pub fn listener(&self) -> Option<&L> {
        self.listener.as_ref()
    }

    /// Lets the listener go.
    pub fn detach(&mut self) -> Option<L> {
        self.listener.take()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use pywt_quic::Close;

    use super::*;

    fn closed() -> Notification {
        Notification::Closed(Close::internal("over"), None)
    }

    #[test]
    fn what_came_before_a_listener_is_heard_in_order_then_everything_at_once() {
        let mut audience = Audience::default();
        assert_eq!(audience.hear(Notification::StreamReadable(0)), None);
        assert_eq!(audience.hear(Notification::StreamReadable(4)), None);
        let (missed, before) = audience.attach(&'a');
        assert_eq!(
            missed,
            [
                Notification::StreamReadable(0),
                Notification::StreamReadable(4)
            ]
        );
        assert_eq!(before, None);
        let next = Notification::StreamWritable(0);
        assert_eq!(audience.hear(next.clone()), Some(('a', next)));
        assert_eq!(audience.attach(&'b'), (vec![], Some('a')));
    }

    #[test]
    fn the_end_lets_go_of_the_listener() {
        let mut audience = Audience::default();
        let listener = Rc::new(());
        let missed = audience.attach(&listener);
        assert_eq!(missed, (vec![], None));
        assert!(!audience.is_closed());
        drop(audience.hear(closed()));
        assert!(audience.is_closed());
        assert_eq!(Rc::strong_count(&listener), 1);
    }

    #[test]
    fn who_comes_after_the_end_hears_it_once_and_is_not_kept() {
        let mut audience = Audience::default();
        assert_eq!(audience.hear(Notification::StreamReadable(0)), None);
        assert_eq!(audience.hear(closed()), None);
        assert!(audience.is_closed());
        let listener = Rc::new(());
        let (missed, _) = audience.attach(&listener);
        assert_eq!(missed, [Notification::StreamReadable(0), closed()]);
        assert_eq!(Rc::strong_count(&listener), 1);
        assert_eq!(audience.attach(&listener).0, []);
    }
}
