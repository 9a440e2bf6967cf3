"""The tracer, on a module whose calls are counted by hand."""

import importlib.util
import threading
from pathlib import Path

from tests.tracing.tracer import Tracer

SOURCE = """
class Thing:
    size = [n for n in range(3)]

    def method(self):
        return [inner(n) for n in self.size]

def inner(n):
    return (lambda: n)()

def never():
    return 0

def values():
    yield 1
    yield 2
"""


def test_named_functions_of_the_folder_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("tiny", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with Tracer(tmp_path) as tracer:
        spec.loader.exec_module(module)
        assert tracer.trace.files == []  # a module body enters nothing
        module.Thing().method()
        thread = threading.Thread(target=lambda: list(module.values()))
        thread.start()
        thread.join()
    module.never()  # outside of the context
    assert tracer.trace.files == ["tiny.py"]
    names = [name.split(":")[1] for name in tracer.trace.functions]
    assert names == ["Thing.method", "inner", "values"]
