"""The class from which everything that has events inherits.

Connections, sessions and streams are emitters, most of which nobody ever listens to. So an
emitter costs nothing to make: its containers are class attributes holding None until the first
listener or event, and an event that nobody listens to becomes nothing at all.

What is emitted without waiting for its handlers is delivered in order by one task, which lives as
long as there is something to deliver. What waits for it is bounded: the oldest makes room, and is
counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, overload

from pywebtransport._event import Event
from pywebtransport._waiting import ends_task
from pywebtransport.constants import (
    DEFAULT_MAX_EVENT_HISTORY,
    DEFAULT_MAX_EVENT_LISTENERS,
    DEFAULT_MAX_QUEUED_EVENTS,
)
from pywebtransport.types import EventData, EventType, Timeout

__all__ = ["Event", "EventEmitter", "EventHandler"]

logger = logging.getLogger(__name__)

EventHandler: TypeAlias = Callable[[Event], Awaitable[None] | None]
HandlerT = TypeVar("HandlerT", bound=EventHandler)

BATCH = 64
"""Events delivered in a row without a trip through the loop."""


class EventEmitter:
    """Calls the handlers that are registered for an event.

    For one event the persistent handlers run first, then those registered for one time, then
    those for every event; asynchronous ones are awaited one after another. What a handler raises
    is logged and goes no further.

    The library's own events are emitted by :meth:`emit_nowait`: each emitter has its handlers
    finish with one event before they get the next. A handler that takes long delays the next ones;
    let it start a task of its own.
    """

    _any_handlers: list[EventHandler] | None = None
    _delivery: asyncio.Task[None] | None = None
    _dropped_events: int = 0
    _handlers: dict[str, list[EventHandler]] | None = None
    _history: deque[tuple[Event, bool]] | None = None
    """Events, without their source where that is the emitter itself."""
    _is_emitter: bool = False
    _is_heard: bool = False
    """Somebody has listened, or may yet; an event of another one is not worth a call."""
    _is_overflowing: bool = False
    _is_paused: bool = False
    _max_history: int = DEFAULT_MAX_EVENT_HISTORY
    _max_listeners: int = DEFAULT_MAX_EVENT_LISTENERS
    _max_queued: int = DEFAULT_MAX_QUEUED_EVENTS
    _once_handlers: dict[str, list[EventHandler]] | None = None
    _queue: deque[Event] | None = None

    def __init__(
        self,
        *,
        max_listeners: int = DEFAULT_MAX_EVENT_LISTENERS,
        max_history: int = DEFAULT_MAX_EVENT_HISTORY,
        max_queue_size: int = DEFAULT_MAX_QUEUED_EVENTS,
    ) -> None:
        """With several bases that are emitters only the first call counts.

        max_listeners: above so many for one type a warning is logged.
        max_history: recent events that are remembered; 0: none. They keep what they carry alive.
        max_queue_size: events that wait for their handlers or for :meth:`resume`; from a full
            queue the oldest is dropped.
        """
        if self._is_emitter:
            return
        self._is_emitter = True
        if max_listeners != self._max_listeners:
            self._max_listeners = max_listeners
        if max_history != self._max_history:
            self._max_history = max_history
            self._is_heard = True
        if max_queue_size != self._max_queued:
            self._max_queued = max_queue_size

    async def close(self) -> None:
        """Deliver nothing more, not even what waits, and forget every listener."""
        task, self._delivery = self._delivery, None
        self.remove_all_listeners()
        self._queue = None
        if task is not None and task is not asyncio.current_task() and not task.done():
            task.cancel()
            await asyncio.wait((task,))

    # listeners

    @overload
    def on(self, *, event_type: EventType | str) -> Callable[[HandlerT], HandlerT]: ...
    @overload
    def on(self, *, event_type: EventType | str, handler: EventHandler) -> None: ...
    def on(
        self, *, event_type: EventType | str, handler: EventHandler | None = None
    ) -> Callable[[HandlerT], HandlerT] | None:
        """Call ``handler`` at every event of this type, until it is taken off.

        Without a handler it is a decorator of one.
        """
        if handler is None:

            def add(handler: HandlerT) -> HandlerT:
                self.on(event_type=event_type, handler=handler)
                return handler

            return add
        if self._handlers is None:
            self._handlers = {}
        self._add(self._handlers.setdefault(event_type, []), handler, event_type)
        return None

    def once(self, *, event_type: EventType | str, handler: EventHandler) -> None:
        """Call ``handler`` at the next event of this type; it is taken off before."""
        if self._once_handlers is None:
            self._once_handlers = {}
        self._add(self._once_handlers.setdefault(event_type, []), handler, event_type)

    def on_any(self, *, handler: EventHandler) -> None:
        """Call ``handler`` at every event, after the handlers of its type."""
        if self._any_handlers is None:
            self._any_handlers = []
        self._add(self._any_handlers, handler, "*")

    def off(self, *, event_type: EventType | str, handler: EventHandler | None = None) -> None:
        """Take off one handler of this type, or all of them."""
        for registry in (self._handlers, self._once_handlers):
            handlers = None if registry is None else registry.get(event_type)
            if registry is None or handlers is None:
                continue
            if handler in handlers:
                handlers.remove(handler)
            if handler is None or not handlers:
                del registry[event_type]

    def off_any(self, *, handler: EventHandler | None = None) -> None:
        """Take off one handler for every event, or all of them."""
        if handler is None:
            self._any_handlers = None
        elif self._any_handlers is not None and handler in self._any_handlers:
            self._any_handlers.remove(handler)

    def remove_all_listeners(self, *, event_type: EventType | str | None = None) -> None:
        """Take off the handlers of one type, or every handler there is."""
        if event_type is not None:
            self.off(event_type=event_type)
        else:
            self._handlers = self._once_handlers = self._any_handlers = None

    def listeners(self, *, event_type: EventType | str) -> list[EventHandler]:
        """The handlers of this type: persistent ones, then those for one time."""
        registries = (self._handlers or {}, self._once_handlers or {})
        return [handler for registry in registries for handler in registry.get(event_type, ())]

    def listener_count(self, *, event_type: EventType | str) -> int:
        """How many handlers this type has."""
        return len(self.listeners(event_type=event_type))

    def set_max_listeners(self, *, max_listeners: int) -> None:
        """Change above how many listeners for one type a warning is logged."""
        self._max_listeners = max_listeners

    # events

    async def emit(
        self,
        *,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """Run the handlers of an event here; return when all have run.

        It does not wait for its turn among the events of :meth:`emit_nowait`. While paused it is
        held back with them until :meth:`resume`.
        """
        event = self._next_event(event_type, data, source)
        if event is None:
            return
        if self._is_paused:
            self._enqueue(event)
        else:
            await self._run_handlers(event)

    def emit_nowait(
        self,
        *,
        event_type: EventType | str,
        data: EventData | None = None,
        source: Any = None,
    ) -> None:
        """Let the emitter's task run the handlers, after those of the events before.

        ``max_queue_size`` events wait; then the oldest is dropped, logged, and counted as
        ``dropped_events`` in :meth:`get_stats`.
        """
        event = self._next_event(event_type, data, source)
        if event is None:
            return
        self._enqueue(event)
        if self._delivery is None and not self._is_paused:
            self._delivery = asyncio.get_running_loop().create_task(self._deliver_queue())

    async def wait_for(
        self,
        *,
        event_type: EventType | str,
        timeout: Timeout | None = None,
        condition: Callable[[Event], bool] | None = None,
    ) -> Event:
        """The next event of this type for which ``condition`` holds.

        What ``condition`` raises ends the wait. ``asyncio.TimeoutError``, the built-in class, is
        raised after ``timeout`` seconds.
        """
        found: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def look(event: Event) -> None:
            if found.done():
                return
            try:
                if condition is None or condition(event):
                    found.set_result(event)
            except Exception as error:
                found.set_exception(error)

        self.on(event_type=event_type, handler=look)
        try:
            return await asyncio.wait_for(found, timeout)
        finally:
            self.off(event_type=event_type, handler=look)

    def pause(self) -> None:
        """Hold events back until :meth:`resume`."""
        self._is_paused = self._is_heard = True

    def resume(self) -> asyncio.Task[None] | None:
        """Deliver again; the task that delivers what was held back, if it had to be started."""
        self._is_paused = False
        if not self._queue or self._delivery is not None:
            return None
        self._delivery = asyncio.get_running_loop().create_task(self._deliver_queue())
        return self._delivery

    # what happened

    def get_event_history(
        self, *, event_type: EventType | str | None = None, limit: int = 100
    ) -> list[Event]:
        """The last events, of one type or all, newest last; none unless ``max_history`` says so."""
        if not self._history or limit <= 0:
            return []
        events = (
            dataclasses.replace(event, source=self) if is_own else event
            for event, is_own in self._history
            if event_type is None or event.type == event_type
        )
        return list(deque(events, maxlen=limit))

    def clear_history(self) -> None:
        """Forget the recorded events."""
        self._history = None

    def get_stats(self) -> dict[str, Any]:
        """Counts of handlers, and of recorded, waiting and dropped events."""
        handlers, once = self._handlers or {}, self._once_handlers or {}
        return {
            "total_handlers": sum(map(len, handlers.values())),
            "total_once_handlers": sum(map(len, once.values())),
            "wildcard_handlers": len(self._any_handlers or ()),
            "event_types": len(handlers.keys() | once.keys()),
            "history_size": len(self._history or ()),
            "queued_events": len(self._queue or ()),
            "dropped_events": self._dropped_events,
            "paused": self._is_paused,
        }

    # private

    def _note(self, event_type: EventType, data: EventData) -> None:
        """As :meth:`emit_nowait` with itself as the source; cheaper when nobody listens."""
        if self._is_paused or self._max_history or self._has_listeners(event_type):
            self.emit_nowait(event_type=event_type, data=data, source=self)

    def _is_delivering_here(self) -> bool:
        """Whether a handler of this emitter asks, which nothing may wait for then."""
        return self._delivery is not None and self._delivery is asyncio.current_task()

    async def _settle(self, timeout: float) -> None:
        """Wait until what was emitted before has been delivered, so many seconds at most."""
        task = self._delivery
        if task is not None and task is not asyncio.current_task():
            await asyncio.wait((task,), timeout=timeout)

    def _add(self, handlers: list[EventHandler], handler: EventHandler, kind: str) -> None:
        if handler in handlers:
            logger.warning("handler %r is already registered for %s", handler, kind)
            return
        if len(handlers) >= self._max_listeners:
            logger.warning(
                "%s has more than %d listeners for %s; is one of them never taken off?",
                type(self).__name__,
                self._max_listeners,
                kind,
            )
        handlers.append(handler)
        self._is_heard = True

    def _next_event(
        self, event_type: EventType | str, data: EventData | None, source: Any
    ) -> Event | None:
        """Record an event; give it back when there is something to run for it, now or later."""
        is_wanted = self._is_paused or self._has_listeners(event_type)
        if not is_wanted and not self._max_history:
            return None
        event = Event(type=event_type, data=data, source=source)
        if self._max_history:
            if self._history is None:
                self._history = deque(maxlen=self._max_history)
            # An emitter that holds itself would wait for the collector.
            is_own = source is self
            entry = dataclasses.replace(event, source=None) if is_own else event
            self._history.append((entry, is_own))
        return event if is_wanted else None

    def _enqueue(self, event: Event) -> None:
        if self._queue is None:
            self._queue = deque()
        queue = self._queue
        queue.append(event)
        if len(queue) <= self._max_queued:
            return
        queue.popleft()
        self._dropped_events += 1
        if not self._is_overflowing:
            # Once until they catch up: who causes the events may be the peer.
            self._is_overflowing = True
            logger.warning(
                "%s: %d events wait for their handlers%s; the oldest are dropped",
                type(self).__name__,
                self._max_queued,
                " (paused)" if self._is_paused else "",
            )

    def _has_listeners(self, event_type: EventType | str) -> bool:
        if not self._is_heard:
            return False
        handlers, once, every = self._handlers, self._once_handlers, self._any_handlers
        return bool(
            (handlers is not None and event_type in handlers)
            or (once is not None and event_type in once)
            or every
        )

    async def _run_handlers(self, event: Event) -> None:
        if self._handlers is not None:
            for handler in tuple(self._handlers.get(event.type, ())):
                await self._run(handler, event)
        if self._once_handlers is not None:
            for handler in self._once_handlers.pop(event.type, ()):
                await self._run(handler, event)
        if self._any_handlers is not None:
            for handler in tuple(self._any_handlers):
                await self._run(handler, event)

    async def _run(self, handler: EventHandler, event: Event) -> None:
        try:
            result = handler(event)
            if result is not None and inspect.isawaitable(result):
                await result
        except BaseException as error:
            if ends_task(error):
                raise
            logger.exception("handler %r failed at %s", handler, event.type)
            self._handler_failed(event)

    async def _deliver_queue(self) -> None:
        task = asyncio.current_task()
        count = 0
        try:
            while self._queue and not self._is_paused and self._delivery is task:
                await self._run_handlers(self._queue.popleft())
                count += 1
                if not count % BATCH:
                    await asyncio.sleep(0)
            self._is_overflowing = False
        finally:
            if self._delivery is task:
                self._delivery = None

    def _handler_failed(self, event: Event) -> None:
        """For subclasses of which somebody waits for what a handler was to do."""
