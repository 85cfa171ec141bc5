"""Images encoded by a pool of their own, whose embeddings go on to those who compute prompts.

Like a translator in the mail room: letters with nothing foreign in them go straight to the desks.
"""

from __future__ import annotations

from typing import Any

from factory_sim.factory.crossing import CrossingGateway, linked
from factory_sim.factory.disaggregation import PromptGateway
from factory_sim.factory.engine.request import Request
from factory_sim.factory.gateway import Gateway
from factory_sim.factory.replica import Replica
from factory_sim.metrics.totals import Totals


class EncodeGateway(Gateway):
    """Sends requests whose images are not encoded yet to encoders, and back to the `front`.

    A request counts as outstanding at its encoder until its embeddings have come to where its
    prompt is computed; kept: those encoded whose embeddings have not. They take no memory here.
    """

    front: ImageGateway

    def __init__(self, *gateway: Any) -> None:
        super().__init__(*gateway)
        self.kept: dict[Request, None] = {}
        self._since_s: dict[Request, float] = {}  # when a request came

    def take(self, request: Request) -> bool:
        """Send a request to an encoder; False if it could never be served."""
        self._since_s[request] = self.env.now
        if not self._sent(request):
            del self._since_s[request]
            return False
        self.front.expect(1)
        return True

    def leave(self, replica: Replica, request: Request, time: float, outcome: str) -> None:
        """Let a request go on that has its images encoded, or whose client gave up."""
        if outcome == "completed":
            self.front.expect(-1)
            self.kept[request] = None
            self.front.go_on(request)
        else:
            super().leave(replica, request, time, outcome)

    def release(self, request: Request) -> float:
        """Forget a request whose embeddings have come, or are lost; return the seconds since."""
        del self.kept[request]
        self.outstanding[request.encode_replica] -= 1
        seconds: float = self.env.now - self._since_s.pop(request)
        return seconds

    def fail(self, replica: Replica, dark: bool) -> list[Request]:
        """Stop an encoder; return what it has lost, embeddings on their way from it included."""
        lost = super().fail(replica, dark)
        for request in list(self.kept):
            if request.encode_replica == replica.number:
                self.front.withdraw(request)
                del self.kept[request]
                self.front.expect(1)
                request.forget()
                lost.append(request)
        return sorted(lost, key=lambda request: request.number)

    # -- inside ------------------------------------------------------------------------

    def _hand(self, number: int, request: Request) -> bool:
        request.encode_replica = number
        return self.replicas[number].submit(request)

    def _gone(self, request: Request, time: float, outcome: str) -> None:
        del self._since_s[request]
        self.front.expect(-1)
        self.front.end_early(request, time, outcome)

    def _note(self, request: Request, end_s: float, outcome: str) -> None:
        self.front.note_early(request, end_s, outcome)


class ImageGateway(CrossingGateway):
    """The gateway that clients see, of a deployment with encoders: images go there first.

    Whoever comes here again, lost with a replica, has its images encoded again.
    image_bytes: of the embeddings of one image.
    """

    def __init__(self, *gateway: Any, encoders: EncodeGateway, image_bytes: float, **more: Any):
        super().__init__(*gateway, **more)
        self._encoders, self._image_bytes = encoders, image_bytes
        encoders.front = self
        self._encoding = 0  # requests at the encoders
        self._idle = 0  # replicas with nothing to do
        self._idle_s = self._settled_s = 0.0

    def adopt(self, replica: Replica) -> None:
        """Add a replica to those that requests are sent to."""
        super().adopt(replica)
        linked(replica).idles = self._idles
        self._idle += 1

    def totals(self) -> list[Totals]:
        """Return what each replica has done until now, and how long idle ones waited for images.

        As many of them wait as there are requests at the encoders, the others for work.
        """
        found = super().totals()
        self._settle()
        return [*found, Totals(encoder_s=self._idle_s)]

    def expect(self, requests: int) -> None:
        """Expect so many requests more (or less) from the encoders."""
        self._settle()
        self._encoding += requests

    def go_on(self, request: Request) -> None:
        """Send a request on that has its images encoded."""
        self._send([request])

    def end_early(self, request: Request, time: float, outcome: str) -> None:
        """Note how a request ended while its images were encoded."""
        self._gone(request, time, outcome)

    def note_early(self, request: Request, end_s: float, outcome: str) -> None:
        """Note a row."""
        self._note(request, end_s, outcome)

    # -- inside ------------------------------------------------------------------------

    def _settle(self) -> None:
        """Book the time since the last change."""
        now = self.env.now
        self._idle_s += min(self._encoding, self._idle) * (now - self._settled_s)
        self._settled_s = now

    def _idles(self, change: int) -> None:
        self._settle()
        self._idle += change

    def _sent(self, request: Request) -> bool:
        return self._encoders.take(request) if request.unseen else super()._sent(request)

    def _hand(self, number: int, request: Request) -> bool:
        if not request.images:
            return super()._hand(number, request)
        size = request.images * self._image_bytes
        self._carry(request, size, request.encode_replica, number)
        return True

    def _take_in(self, request: Request, number: int) -> None:
        request.encoding_s = self._encoders.release(request)
        if not super()._hand(number, request):
            self.outstanding[number] -= 1
            self._gone(request, self.env.now, "rejected")

    def _lose(self, request: Request) -> None:
        self._encoders.release(request)
        request.forget()

    def _gone(self, request: Request, time: float, outcome: str) -> None:
        if request in self._encoders.kept:
            self._encoders.release(request)
        super()._gone(request, time, outcome)


class ImagePromptGateway(ImageGateway, PromptGateway):
    """The same in front of a pool that only computes prompts."""
