"""How tensorflow_peer.py misbehaves, and the statuses of TensorFlow Serving: what its other modules share."""

# mypy: ignore-errors

import threading
import time
from collections import Counter

(
    CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED,
    RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS,
    UNAUTHENTICATED,
) = range(1, 17)  # fmt: skip


class Refusal(Exception):
    """A status that is not OK: its number, which is TensorFlow's and gRPC's alike, and its message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code
        self.message = message


class Faults:
    """How the server misbehaves; a test sets it by the control port. All is well at first."""

    def __init__(self):
        self.changed = threading.Condition()
        self.reset()

    def reset(self):
        with self.changed:
            self.delay_ms = {"slow": 200}  # a session's run takes this much longer, by model
            self.drift_ms = {}  # and this much more with each request
            self.compile_ms = {}  # the first request after this was set takes this much longer
            self.fail = {}  # by model: {"code", "message", "times"}: refused, for ever without times
            self.answer = {}  # by model: "truncated", "empty", "noise", "other_type", "other_shape" as its answer
            self.silent = False  # requests are taken, and never answered
            self.rest_timeout_ms = 30000  # --rest_api_timeout_in_ms
            self.queue_timeout_ms = 0  # a request waits no longer than this for its batch; 0 for its own deadline
            self.batching = {
                "slow": {"max_batch_size": 4, "batch_timeout_micros": 1000, "threads": 1, "max_enqueued_batches": 1}
            }
            self.turn = getattr(self, "turn", 0) + 1
            self.seen = Counter()
            self.changed.notify_all()

    def set(self, values):
        with self.changed:
            for name, value in values.items():
                if name not in ("changed", "turn", "seen") and hasattr(self, name):
                    setattr(self, name, value)
                else:
                    raise ValueError(name)
            for name in values.get("compile_ms", {}):
                self.seen["compiled " + name] = 0

    def hold(self, seconds):
        """Waits so long, or until all is well again."""
        with self.changed:
            turn, end = self.turn, time.monotonic() + seconds
            while self.turn == turn and time.monotonic() < end:
                self.changed.wait(end - time.monotonic())

    def before_answer(self, model):
        if self.silent:
            self.hold(3600)
        with self.changed:
            failure = self.fail.get(model)
            if failure is not None and failure.get("times", 1) > 0:
                if "times" in failure:
                    failure["times"] -= 1
                raise Refusal(globals()[failure["code"]], failure.get("message", ""))

    def run_seconds(self, model):
        with self.changed:
            taken = self.delay_ms.get(model, 0) + self.drift_ms.get(model, 0) * self.seen[model]
            self.seen[model] += 1
            if self.compile_ms.get(model) and not self.seen["compiled " + model]:
                self.seen["compiled " + model] = 1
                taken += self.compile_ms[model]
        return taken / 1000
