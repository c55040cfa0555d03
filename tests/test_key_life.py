"""The life of API keys: random sequences of everything that can happen to them, compared with a small model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pixel import clock, keys
from tests.cast import READ, Caller, Workspace, addresses

OVERLAPS = {"none": timedelta(0), "1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
LONGEST = timedelta(days=7)
CODES = {"active": "", "rotating": "", "expired": "api_key_expired", "revoked": "api_key_revoked"}


@dataclass
class ModelKey:
    """A key as the specification describes it."""

    caller: Caller
    expires_at: datetime | None
    before: "ModelKey | None" = None
    overlap: timedelta = timedelta(0)
    ends_at: datetime | None = None
    used: bool = False
    after: "list[ModelKey]" = field(default_factory=list)

    def state(self, now: datetime) -> str:
        """Return one word for how the key stands."""
        if self.ends_at is not None and self.ends_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active" if self.ends_at is None else "rotating"

    def works(self, now: datetime) -> bool:
        return self.state(now) in ("active", "rotating")


class KeyLife(RuleBasedStateMachine):
    """Everything that can happen to the keys of one workspace."""

    app: Flask
    time: "Time"
    known = Bundle("keys")

    @initialize(target=known)
    def begin(self) -> ModelKey:
        self.workspace = Workspace(self.app)
        self.everything: list[ModelKey] = []
        return self.create(timedelta(days=3))

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.time.seconds, UTC)

    @rule(target=known, lifetime=st.sampled_from([None, timedelta(hours=2), timedelta(days=3), timedelta(days=30)]))
    def create(self, lifetime: timedelta | None) -> ModelKey:
        expires_at = lifetime and self.now + lifetime
        return self.add(ModelKey(self.workspace.key(READ, expires_at=expires_at), expires_at))

    @rule(target=known, key=known, overlap=st.sampled_from(list(OVERLAPS)), used_at_once=st.booleans())
    def rotate(self, key: ModelKey, overlap: str, used_at_once: bool) -> ModelKey:
        if not key.works(self.now):
            with pytest.raises(ValueError, match=key.state(self.now)):
                self.workspace.rotate(key.caller, overlap=overlap)
            return multiple()
        successor = ModelKey(self.workspace.rotate(key.caller, overlap=overlap), key.expires_at, key, OVERLAPS[overlap])
        # A second rotation ends the first, at whichever end of it this key is.
        for other in [*key.after, *filter(None, [key.before])]:
            if other.ends_at is None or other.ends_at > self.now:
                other.ends_at = self.now
        key.ends_at = self.now + LONGEST if successor.overlap else self.now
        key.after.append(successor)
        if used_at_once:
            self.call(successor)
        return self.add(successor)

    @rule(key=known)
    def call(self, key: ModelKey) -> None:
        key.caller.address = next(addresses)
        answer = key.caller.get("/me")
        assert answer.json.get("error", {}).get("code", "") == CODES[key.state(self.now)]
        assert answer.status_code == (200 if key.works(self.now) else 401)
        if key.works(self.now) and not key.used:
            key.used = True
            if key.before and key.before.ends_at is not None:
                key.before.ends_at = min(key.before.ends_at, self.now + key.overlap)

    @rule(key=known)
    def revoke(self, key: ModelKey) -> None:
        self.workspace.revoke(key.caller)
        if key.ends_at is None or key.ends_at > self.now:
            key.ends_at = self.now

    @rule(key=known)
    def end_overlap(self, key: ModelKey) -> None:
        if self.carry_out(keys.end_overlap, key, key.state(self.now) == "rotating"):
            key.ends_at = self.now

    @rule(key=known)
    def discard(self, key: ModelKey) -> None:
        may = key.before is not None and not key.used and key.works(self.now)
        if self.carry_out(keys.discard, key, may):
            key.ends_at = self.now
            if key.before.state(self.now) == "rotating":
                key.before.ends_at = None

    @rule(hours=st.sampled_from([1, 24, 24 * 7]))
    def wait(self, hours: int) -> None:
        self.time.seconds += hours * 3600

    @rule(key=known, seconds_before=st.sampled_from([0, 1]))
    def wait_for_the_end(self, key: ModelKey, seconds_before: int) -> None:
        """Wait until a key ends, or until the second before."""
        ends = [end for end in (key.ends_at, key.expires_at) if end is not None and end > self.now]
        if ends:
            self.time.seconds = max(self.time.seconds, min(ends).timestamp() - seconds_before)

    @invariant()
    def every_key_stands_as_the_model_says(self) -> None:
        with self.app.app_context():
            stored = {key.id: (keys.state(key, self.now), key.revoked_at) for key in keys.of(self.workspace.id)}
        assert stored == {key.caller.key_id: (key.state(self.now), key.ends_at) for key in self.everything}

    def add(self, key: ModelKey) -> ModelKey:
        self.everything.append(key)
        return key

    def carry_out(self, action: Callable[[str], object], key: ModelKey, allowed: bool) -> bool:
        """Do something with a key; check that it is refused unless it is allowed, and return whether it is."""
        with self.app.app_context():
            if allowed:
                action(key.caller.key_id)
            else:
                with pytest.raises(ValueError, match=r"\.$"):
                    action(key.caller.key_id)
        return allowed


class Time:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.seconds = float(int(clock.seconds()))


@pytest.fixture
def machine(app: Flask, monkeypatch: pytest.MonkeyPatch) -> type[KeyLife]:
    time = Time()
    monkeypatch.setattr(clock, "seconds", lambda: time.seconds)
    return type("Machine", (KeyLife,), {"app": app, "time": time})


def live(machine: type[KeyLife], examples: int, derandomize: bool) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, derandomize=derandomize, database=None,
            phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.case(18, 111)
def test_whatever_happens_to_keys_each_works_exactly_as_long_as_it_should(machine: type[KeyLife]) -> None:
    live(machine, 60, derandomize=True)


@pytest.mark.soak
@pytest.mark.case(111)
@pytest.mark.timeout(3600)
def test_whatever_happens_to_keys_for_long_each_works_exactly_as_long_as_it_should(machine: type[KeyLife]) -> None:
    live(machine, 2000, derandomize=False)
