"""A bound on how long a text from outside, such as a chat template, may keep us computing."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any


class TooLong(Exception):
    """What was called had not ended in time."""


def within(seconds: float, call: Callable[[], str]) -> str:
    """What `call` returns, or TooLong where that takes more than `seconds`.

    It runs in a thread of its own, which is told to stop at its next step of Python: a template is
    compiled to Python, so a loop of its ends there. Errors of `call` are raised as they are.
    """
    found: dict[str, Any] = {}

    def work() -> None:
        try:
            found["text"] = call()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        stop = ctypes.py_object(TooLong)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), stop)
        thread.join(seconds)
        raise TooLong
    if "error" in found:
        raise found["error"]
    return str(found["text"])
