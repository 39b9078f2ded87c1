"""What publishing and subscribing raise.

PubSubError
└─ NotSubscribedError   SubscriptionFailedError
"""

from __future__ import annotations

from pywebtransport.exceptions import WebTransportError

__all__ = ["NotSubscribedError", "PubSubError", "SubscriptionFailedError"]


class PubSubError(WebTransportError):
    """The stream of a PubSubManager or the broker cannot be used."""


class NotSubscribedError(PubSubError):
    """The operation needs a subscription that can no longer be reached."""


class SubscriptionFailedError(PubSubError):
    """The server refused a subscription, or did not answer in time."""
