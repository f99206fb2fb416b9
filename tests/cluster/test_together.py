"""Processes that work together: what they say, and what their failures mean; Ray is not started."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from glasshouse.cluster import together
from glasshouse.cluster.pieces import Cluster, Terms
from glasshouse.cluster.together import Contact, Link, Mailbox, _meaning_of, run_together
from glasshouse.errors import DataError, DivergedError, LostProcess, ProcessError


class Actor:
    """An actor of Ray that is here: its methods are called when they are asked for."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.mailbox, name))


class Here:
    """What of Ray is needed, without processes of its own."""

    exceptions = SimpleNamespace(RayError=ConnectionError)

    def __init__(self) -> None:
        self.actor: Actor | None = None

    def get(self, value: Any) -> Any:
        if isinstance(value, ConnectionError):
            raise value
        return value

    def remote(self, kind: type[Mailbox]) -> Any:
        self.actor = Actor(kind())
        return SimpleNamespace(options=lambda **given: SimpleNamespace(remote=lambda: self.actor))


class Trainer:
    """One that does something instead of starting processes."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.fit = do


def started(
    monkeypatch: pytest.MonkeyPatch, do: Callable[[Contact], None], **options: Any
) -> tuple[Any, list[Any]]:
    ray = Here()
    asked: list[Any] = []

    def trainer(cluster: Cluster, count: int, config: dict[str, Any], *rest: object) -> Trainer:
        asked.extend((count, config["arguments"]))
        return Trainer(lambda: do(Contact(ray, config["mailbox"])))

    monkeypatch.setattr(together, "_trainer", trainer)
    monkeypatch.setattr(together, "_POLL_S", 0.01)
    monkeypatch.setattr(Cluster, "beside_command", lambda self: {})
    cluster = Cluster(ray, Terms({}, 1), 0)
    return run_together(cluster, 2, print, "a", link=Link("gloo", 1), **options), asked


def test_what_processes_say_comes_in_order_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def work(contact: Contact) -> None:
        for number in range(50):
            contact.say(number)

    said, asked = started(monkeypatch, work)
    assert list(said) == list(range(50))
    assert asked == [2, ("a",)]


def test_a_signal_of_the_command_reaches_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(contact: Contact) -> None:
        assert contact.signal_received() is None
        contact.listen()  # ends when there is one
        contact.say(contact.signal_received())

    said, _ = started(monkeypatch, work, signal_received=lambda: 15)
    assert list(said) == [15]


def test_a_process_stops_listening_when_the_command_has_gone() -> None:
    ray = Here()

    def gone(value: Any) -> Any:
        raise ConnectionError

    ray.get = gone  # type: ignore[method-assign]
    contact = Contact(ray, Actor(Mailbox()))
    listening = threading.Thread(target=contact.listen)
    listening.start()
    listening.join(timeout=20)
    assert not listening.is_alive() and contact.signal_received() is None


def test_what_was_said_before_an_error_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(contact: Contact) -> None:
        contact.say("before")
        raise failed(DataError("no images"))

    said, _ = started(monkeypatch, work)
    heard: list[object] = []
    with pytest.raises(DataError, match="no images"):
        heard.extend(iter(said.__next__, None))
    assert said.gi_frame is None


@pytest.mark.parametrize("method", ["taken", "stop"])
def test_a_lost_mailbox_is_a_lost_process_once_the_others_have_ended(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    has_ended, may_end = threading.Event(), threading.Event()

    def lost(self: Mailbox, *given: object) -> ConnectionError:
        may_end.set()
        return ConnectionError("the actor died")

    def work(contact: Contact) -> None:
        may_end.wait(20)
        time.sleep(0.1)
        has_ended.set()

    monkeypatch.setattr(Mailbox, method, lost)
    said, _ = started(monkeypatch, work, signal_received=lambda: 15)
    with pytest.raises(LostProcess, match="passes on what they say was lost"):
        list(said)
    assert has_ended.is_set()


def failed(*errors: BaseException | None) -> Exception:
    """As Ray raises the failures of processes, by rank, some of them wrapped; None: one died."""
    error = RuntimeError("training failed")
    died = type("ActorDied", (Exception,), {"__module__": "ray.exceptions"})
    found: list[Any] = [died() if each is None else each for each in errors]
    found[-1] = SimpleNamespace(_base_exc=found[-1])
    error.worker_failures = dict(enumerate(found))  # type: ignore[attr-defined]
    return error


GONE = LostProcess("another process of this training has ended")
FAULT = ZeroDivisionError()


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ((DivergedError("nan"), GONE), DivergedError),
        ((GONE, DataError("none")), DataError),
        ((ProcessError("other weights"), GONE), ProcessError),
        ((GONE, None), LostProcess),
        ((None,), LostProcess),
        ((GONE, GONE), LostProcess),
    ],
)
def test_the_error_that_ended_the_work_counts(
    errors: tuple[BaseException | None, ...], kind: type[Exception]
) -> None:
    assert type(_meaning_of(failed(*errors))) is kind


def test_a_fault_in_the_code_keeps_its_traceback() -> None:
    error = failed(GONE, FAULT)
    assert _meaning_of(error) is error
    # As has one of the trainer itself.
    assert _meaning_of(FAULT) is FAULT


def test_what_could_not_be_started_is_told_with_its_reason() -> None:
    error = RuntimeError("controller")
    error.controller_failure = TimeoutError("no place for 4.\nAt all")  # type: ignore[attr-defined]
    meaning = _meaning_of(error)
    assert isinstance(meaning, LostProcess) and "any longer: no place for 4. What" in str(meaning)


def test_each_process_chooses_its_interface_before_ray_connects_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("ray.train.torch")
    config, done = together._connecting(Link("gloo", 7)), list[object]()
    assert (config.backend, config.timeout_s) == ("gloo", 7)
    of_ray = config.backend_cls.__mro__[1]
    monkeypatch.setattr(of_ray, "on_start", lambda self, workers, given: done.append(given))
    config.backend_cls().on_start(SimpleNamespace(execute=done.append), config)
    assert done == [together._choose_interface, config]
