"""The benchmark behind the default method: its table is made from its results alone."""

from pathlib import Path

from tests.examples.test_tinystories import EXAMPLES, load_file

benchmark = load_file(EXAMPLES.parent / "benchmarks" / "default_method.py")


def test_table_shows_mean_and_spread_and_a_dash_where_a_seed_has_no_number() -> None:
    def result(method: str, seed: int, right: float | None) -> object:
        return benchmark.Result("dirty", True, seed, method, right, 0.4)

    rows = [result("random", 0, 0.4), result("random", 1, 0.5)]
    rows += [result("ifd", 0, 0.4), result("ifd", 1, None)]
    lines = benchmark.table(rows).splitlines()
    assert "| dirty | given | `random` | 0.450 (0.071) | - |" in lines
    assert "| dirty | given | `ifd` | - | - |" in lines


def test_commit_is_named_or_unknown() -> None:
    assert benchmark.commit() == "unknown" or len(benchmark.commit()) == 40
    assert Path(benchmark.__file__).name == "default_method.py"
