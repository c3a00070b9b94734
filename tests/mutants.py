"""Mutation testing of the rules and parsers: `make mutants` changes them one place at a time and runs their unit tests.

mutmut makes the mutants and runs them; this module says which modules and tests, and reports. docs/mutants.md lists
the mutants that no test can kill.
"""

from __future__ import annotations

import ast
import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant

ROOT = Path(__file__).resolve().parent.parent
#: mutmut works here; begun anew for each module, since it would keep verdicts although tests changed.
WORK = ROOT / "build" / "mutants"
EQUIVALENT = ROOT / "docs" / "mutants.md"
LEAST = 90
#: Bytes of memory of each process: a mutant that loops without end may fill it.
MEMORY = 2 << 30
#: Each module that is mutated, and the tests that protect it, below tests/unit.
MODULES: Mapping[str, tuple[str, ...]] = {
    "auditor.model.platforms": ("model/test_platforms.py", "model/test_platforms_table.py"),
    "auditor.model.gc_reachability": ("model/test_gc_reachability_table.py",),
    "auditor.model.go_json": ("model/test_go_json.py",),
    "auditor.model.ordinary_json": ("model/test_ordinary_json.py",),
    "auditor.model.oci_json": ("model/test_go_json.py", "model/test_oci.py", "model/test_oci_json.py"),
    "auditor.model.image_graph": ("model/test_image_graph_table.py",),
    "auditor.model.image_walk": ("model/test_image_graph_table.py", "checks/test_index_children.py"),
    "auditor.checks.layer_state": (
        "checks/test_layer_state.py",
        "checks/test_layer_state_documents.py",
        "checks/test_layer_state_faults.py",
    ),
    "auditor.checks.pull_activity": ("checks/test_layer_state.py",),
    "auditor.checks.absent_layers": ("checks/test_absent_layers_table.py",),
    "auditor.checks.pulled_platforms": ("checks/test_pulled_platforms.py",),
    "auditor.checks.documents": ("checks/test_documents_table.py", "checks/test_documents_types_table.py"),
    "auditor.checks.index_children": (
        "checks/test_documents_table.py",
        "checks/test_documents_types_table.py",
        "checks/test_index_children.py",
    ),
    "auditor.checks.garbage_collection": ("checks/test_garbage_collection_table.py",),
    "auditor.containerd.relay": ("containerd/test_relay.py", "containerd/test_documents_ahead.py"),
    "auditor.containerd.documents_ahead": ("containerd/test_documents_ahead.py",),
    "auditor.repair.needs": ("repair/test_needs.py",),
    "auditor.repair.plan": ("repair/test_plan_table.py",),
    "auditor.scrub.schedule": ("scrub/test_schedule_table.py", "scrub/test_snapshots.py"),
    "auditor.scrub.targets": ("scrub/test_schedule_table.py", "scrub/test_snapshots.py", "scrub/test_targets.py"),
    "auditor.archive.tar_reader": ("archive/test_tar_reader.py", "archive/test_sparse.py"),
    "auditor.archive.tar_names": ("archive/test_tar_reader.py",),
    "auditor.archive.tar_numbers": ("archive/test_tar_numbers.py",),
    "auditor.archive.sparse": ("archive/test_sparse.py", "archive/test_sparse_table.py"),
}
#: Plugins of pytest that these tests do not need; each mutant is a run of its own, half of which their start was.
_UNUSED = "rerunfailures xdist timeout unraisableexception threadexception junitxml pastebin doctest faulthandler"
PYTEST = ["--assert=plain", "--tb=no", "--hypothesis-seed=0", "-m", "not slow"]
PYTEST += [f"-pno:{plugin}" for plugin in _UNUSED.split()]
#: Exit statuses of pytest that mutmut records for a mutant that no test killed: passed, and no tests.
_SURVIVED = frozenset({0, 5, 33})
_ROW = re.compile(r"^\| `(?P<module>[\w.]+)` \| `(?P<mutation>.+)` \| .+ \|$", re.MULTILINE)


@dataclass(frozen=True, order=True)
class Mutant:
    """A mutant that survived: its module, and the lines it changed, without their numbers."""

    module: str
    mutation: str
    #: Its name for `mutmut show`, below build/mutants.
    name: str = field(default="", compare=False)


@dataclass(frozen=True)
class Result:
    """The mutants of a module, and those that survived."""

    module: str
    total: int
    survivors: tuple[Mutant, ...]

    @property
    def killed(self) -> int:
        """Mutants that a test noticed."""
        return self.total - len(self.survivors)


def main(asked: list[str]) -> int:
    """Run and report module by module; 1 where fewer than `LEAST` percent are killed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    known = equivalent(EQUIVALENT.read_text())
    print(f"{'module':<34} killed  total", flush=True)
    results = [_shown(_measured(module), known) for module in asked or MODULES]
    killed, total = sum(result.killed for result in results), sum(result.total for result in results)
    equal = sum(mutant in known for result in results for mutant in result.survivors)
    print(
        f"{killed} of {total} killed: {100 * killed / total:.1f} %, {LEAST} % wanted; {equal} survivors are equivalent"
    )
    return int(100 * killed < LEAST * total)


def _measured(module: str) -> Result:
    _prepare(module)
    _run()
    found = json.loads((WORK / "mutants" / f"{_path(module)}.meta").read_text())
    statuses: dict[str, int | None] = found["exit_code_by_key"]
    alive = [name for name, status in statuses.items() if status is None or status in _SURVIVED]
    return Result(module, len(statuses), tuple(_described(module, alive)))


def _shown(result: Result, known: set[Mutant]) -> Result:
    print(f"{result.module:<34} {result.killed:>6} {result.total:>6}")
    for mutant in sorted(set(result.survivors) - known):
        print(f"survived: | `{mutant.module}` | `{mutant.mutation}` | {mutant.name}")
    for mutant in sorted(mutant for mutant in known - set(result.survivors) if mutant.module == result.module):
        print(f"in docs/mutants.md, and killed or gone: {mutant.module}: {mutant.mutation}")
    sys.stdout.flush()
    return result


def _prepare(module: str) -> None:
    """Copy the code, and configure mutmut: each mutant is a run of the module's tests alone."""
    tests = [f"tests/unit/{test}" for test in MODULES[module]]
    if absent := [path for path in (*tests, _path(module)) if not (ROOT / path).is_file()]:
        sys.exit(f"tests/mutants.py names files that are not there: {', '.join(absent)}")
    shutil.rmtree(WORK, ignore_errors=True)
    for folder in ("auditor", "tests"):
        shutil.copytree(ROOT / folder, WORK / folder, ignore=shutil.ignore_patterns("__pycache__", "lab"))
    path = WORK / _path(module)
    path.write_text(undecorated(path.read_text()))
    settings = {
        "source_paths": ["auditor"],
        "only_mutate": [_path(module)],
        "pytest_add_cli_args": PYTEST,
        "pytest_add_cli_args_test_selection": tests,
        # Time on the clock: the time of its tests and these seconds, so many times.
        "timeout_constant": 5.0,
        "timeout_multiplier": 4.0,
    }
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    (WORK / "pyproject.toml").write_text(f"{(ROOT / 'pyproject.toml').read_text()}\n[tool.mutmut]\n{''.join(lines)}")


def undecorated(source: str) -> str:
    """Make properties of plain methods behind their definition: mutmut passes over functions with a decorator."""
    lines = source.splitlines(keepends=True)
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    for node in sorted(functions, key=lambda node: -node.lineno):
        match node.decorator_list:
            case [ast.Name("property" | "cached_property" as kind)]:
                lines.insert(node.end_lineno or 0, f"{' ' * node.col_offset}{node.name} = {kind}({node.name})\n")
                del lines[node.lineno - 2]
    return "".join(lines)


def _run() -> None:
    """Show mutmut's progress on a terminal only: it writes a line for each mutant."""
    log = None if sys.stdout.isatty() else (WORK / "mutmut.log").open("w")
    status = subprocess.run([Path(sys.executable).parent / "mutmut", "run"], cwd=WORK, stdout=log, check=False)
    if status.returncode:
        sys.exit(f"mutmut failed; see {log.name if log else 'above'}")


def _path(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _described(module: str, mutants: Iterable[str]) -> Iterator[Mutant]:
    with chdir(WORK):
        for name in mutants:
            yield Mutant(module, changed(get_diff_for_mutant(name, path=_path(module))), name)


def changed(diff: str) -> str:
    """The lines that a diff takes and gives as one line of text, without markup of a table."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return f"{before} → {after}".replace("|", "¦").replace("`", "'")


def equivalent(page: str) -> set[Mutant]:
    """The mutants listed in docs/mutants.md."""
    return {Mutant(row["module"], row["mutation"]) for row in _ROW.finditer(page)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
