"""Batching as tensorflow_peer.py has it: that of a BatchingSession over a SharedBatchScheduler at 1.15.0."""

# mypy: ignore-errors

import threading
import time
from collections import deque

import numpy
from tensorflow_peer_faults import FAILED_PRECONDITION, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE, Refusal


class Batcher:
    """Requests joined along their first dimension, as a BatchingSession over a SharedBatchScheduler does it."""

    def __init__(self, run, settings):
        self.run, self.settings = run, settings
        self.ready = threading.Condition()
        self.batches = deque()
        for _ in range(settings["threads"]):
            threading.Thread(target=self._work, daemon=True).start()

    def ask(self, feeds, fetches, timeout_s):
        if not feeds:
            raise Refusal(INVALID_ARGUMENT, "Batching session Run() must have at least one input tensor")
        if any(array.ndim == 0 for _, array in feeds):
            what = "Batching session Run() input tensors must have at least one dimension"
            raise Refusal(INVALID_ARGUMENT, what)
        rows, task = (
            len(feeds[0][1]),
            {"feeds": feeds, "done": threading.Event(), "until": time.monotonic() + timeout_s},
        )
        if any(len(array) != rows for _, array in feeds):
            what = "Batching session Run() input tensors must have equal 0th-dimension size"
            raise Refusal(INVALID_ARGUMENT, what)
        most = self.settings["max_batch_size"]
        if rows > most:
            raise Refusal(INVALID_ARGUMENT, f"Task size {rows} is larger than maximum batch size {most}")
        task.update(rows=rows, fetches=fetches)
        with self.ready:
            if not self.batches or sum(one["rows"] for one in self.batches[-1]) + rows > most:
                if len(self.batches) >= self.settings["max_enqueued_batches"]:
                    what = "The batch scheduling queue to which this task was submitted is full"
                    raise Refusal(UNAVAILABLE, what)
                self.batches.append([])
            self.batches[-1].append(task)
            self.ready.notify_all()
        task["done"].wait()
        if isinstance(task["result"], Refusal):
            raise task["result"]
        return task["result"]

    def _work(self):
        while True:
            with self.ready:
                while not self.batches:
                    self.ready.wait()
                first = self.batches[0]
                closes = time.monotonic() + self.settings["batch_timeout_micros"] / 1e6
                while (
                    self.batches
                    and self.batches[0] is first
                    and sum(one["rows"] for one in first) < self.settings["max_batch_size"]
                    and time.monotonic() < closes
                ):
                    self.ready.wait(closes - time.monotonic())
                if not self.batches or self.batches[0] is not first:
                    continue  # another thread has taken it
                batch = self.batches.popleft()
            self._process(batch)

    def _process(self, batch):
        late = [task for task in batch if time.monotonic() > task["until"]]
        live = [task for task in batch if task not in late]
        for task in late:
            task["result"] = Refusal(RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        try:
            if live:
                self._run(live)
        except Refusal as refusal:
            for task in live:
                task["result"] = refusal
        for task in batch:
            task["done"].set()

    def _run(self, live):
        names = [name for name, _ in live[0]["feeds"]]
        joined = []
        for place, name in enumerate(names):
            arrays = [task["feeds"][place][1] for task in live]
            if len({array.shape[1:] for array in arrays}) > 1:
                raise Refusal(
                    FAILED_PRECONDITION,
                    f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
                    "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name"
                    "have equal dimensions starting with the first dim.",
                )
            joined.append((name, numpy.concatenate(arrays)))
        outputs, begin = self.run(joined, live[0]["fetches"]), 0
        if any(array.ndim == 0 for array, _ in outputs):
            raise Refusal(FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        for task in live:
            task["result"] = [(array[begin : begin + task["rows"]], dtype) for array, dtype in outputs]
            begin += task["rows"]
