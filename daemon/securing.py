"""Safe orders under way: sent until verified, and never called safe before that."""

from __future__ import annotations

from dataclasses import dataclass

from coldframe.clock import NS
from coldframe.messages import Safe, Secured, new_id

RETRY_S = 0.6  # longer than one exchange with a slow port and the driver's own retries
PATIENCE_S = 2.5  # past the time its outputs take; then it is said aloud that it is not safe


@dataclass
class Order:
    """One device that must be safe."""

    device: str
    safe: Safe
    since_ns: int
    sent_ns: int
    seconds: float  # its outputs may take
    last_words: str = "no answer"
    reported: bool = False


class Securing:
    """All orders under way, one for each device."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}

    def order(self, device: str, why: str, now_ns: int, seconds: float = 0.0) -> Safe:
        """The message to send at once. A device that is already told is told again."""
        under_way = self.orders.get(device)
        if under_way is not None:
            under_way.sent_ns = now_ns
            return under_way.safe
        safe = Safe(id=new_id(), why=why)
        self.orders[device] = Order(device, safe, now_ns, now_ns, seconds)
        return safe

    def heard(self, message: Secured) -> Order | None:
        """What came of it; the order, when this ends it.

        A host that made safe by itself (no id) and the last hand (its own id) count as well, when
        they did it after the order was given.
        """
        order = self.orders.get(message.device)
        if order is None:
            return None
        own = message.id == order.safe.id
        if message.verified and (own or int(message.mono_ns) >= order.since_ns):
            return self.orders.pop(message.device)
        if own:
            order.last_words = message.words
        return None

    def due(self, now_ns: int) -> tuple[list[Order], list[Order]]:
        """Orders to send again, and orders whose failure must now be told."""
        again, failed = [], []
        for order in self.orders.values():
            if now_ns - order.sent_ns >= RETRY_S * NS:
                order.sent_ns = now_ns
                again.append(order)
            patience = PATIENCE_S + order.seconds
            if not order.reported and now_ns - order.since_ns >= patience * NS:
                order.reported = True
                failed.append(order)
        return again, failed
