"""A version put where a running server looks for it, and the server looked at until it has loaded it and answers."""

from __future__ import annotations

import contextlib
import time

from npu_serving.console import Reporter
from npu_serving.errors import RequestError
from npu_serving.publishing.deployed_policy import refuse_other_changes, write_policy
from npu_serving.publishing.first_answers import answered_by
from npu_serving.publishing.publish import PublicationPlan, Published, put, taken_back_on_failure
from npu_serving.publishing.served_model import ModelOfServer
from npu_serving.settings import Settings


def publish_beside_server(settings: Settings, plan: PublicationPlan, reporter: Reporter) -> Published:
    """Puts the version there and has the server serve it, as publish() says."""
    place, server = plan.place, plan.place.server
    assert server is not None
    served = ModelOfServer(settings, server, place.model, reporter, plan.wanted.timeout_s)
    if not served.looks_for_versions:
        raise RequestError(
            f"Server {server.name} does not look for new versions.",
            cause="it was started with file_system_poll_wait_seconds 0",
            cure=f"publish it without --wait and --label, then ./inv restart {server.name}",
        )
    policy, wanted = plan.policy, plan.wanted
    if policy is not None:
        refuse_other_changes(settings, plan.place, reporter)
    during = policy.during if policy is not None else None
    begun, gone_at = time.monotonic(), 0.0
    with contextlib.ExitStack() as undo:
        if during is not None and policy is not None:
            undo.callback(served.as_before, served.available() if wanted.unload_first else ())
            if not wanted.unload_first:
                served.send(versions=during, labels=policy.labels_during)
        with contextlib.nullcontext() if plan.has_it else put(plan, reporter):
            copied = time.monotonic()
            if wanted.unload_first:
                served.send(versions=during, labels={})
                gone_at = time.monotonic()
                served.wait_until_unloaded(plan.version)
        with contextlib.nullcontext() if plan.has_it else taken_back_on_failure(plan.path):
            named = time.monotonic()
            served.wait_until_loaded(plan.version)
            loaded = time.monotonic()
            served.note_loaded(plan.version, plan.path)
            answered = answered_by(settings, plan.place, plan.version, reporter)
            if policy is not None and policy.is_written:
                write_policy(settings, plan.place, policy, reporter, wanted.timeout_s)
            elif during is not None:
                served.send()
        undo.pop_all()
    silent = loaded - gone_at if wanted.unload_first else None
    return Published(plan, copied - begun, loaded - named, silent, answered)
