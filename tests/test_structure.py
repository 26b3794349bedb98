import ast
from collections import defaultdict
from importlib import import_module
from pathlib import Path

from foremask.errors import REASONS

SRC = Path(__file__).parents[1] / "src" / "foremask"
FILES = sorted(SRC.rglob("*.py"))

POSIX = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def test_only_the_service_imports_a_module_of_posix_at_the_top() -> None:
    """So that the library and the commands of files start on every system."""
    for path in FILES:
        if path.relative_to(SRC).parts[0] != "service":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                match node:
                    case ast.Import(names=aliases):
                        imported = {alias.name for alias in aliases}
                    case ast.ImportFrom(module=module):
                        imported = {module or ""}
                    case _:
                        imported = set[str]()
                assert not imported & POSIX, path


def test_no_two_modules_share_a_name() -> None:
    places = defaultdict(set)
    for path in FILES:
        if path.stem != "__init__":
            places[path.stem].add(path)
        for folder in path.relative_to(SRC).parents:
            if folder.name:
                places[folder.name].add(SRC / folder)
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_public_types_share_a_name() -> None:
    places = defaultdict(list)
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case ast.ClassDef(name=name) | ast.TypeAlias(name=ast.Name(id=name)):
                    if not name.startswith("_"):
                        places[name].append(str(path.relative_to(SRC)))
                case _:
                    pass
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_no_function_is_long() -> None:
    """At most 60 lines, 40 in masking and vision; a docstring, which --help may show, is extra."""
    long = set()
    for path in FILES:
        most = 40 if path.relative_to(SRC).parts[0] in ("masking", "vision") else 60
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                documented = ast.get_docstring(node) is not None
                prose = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
                lines = (node.end_lineno or 0) - node.lineno + 1 - prose
                if lines > most:
                    long.add(f"{path.relative_to(SRC)}: {node.name}")
    assert not long


def test_every_room_has_its_tests() -> None:
    rooms = {path.parent.relative_to(SRC) for path in FILES} - {Path()}
    missing = [room for room in rooms if not (SRC.parents[1] / "tests" / room).is_dir()]
    assert not missing


def test_every_reason_in_the_code_is_known_and_of_the_errors_class() -> None:
    """An unknown one would raise KeyError, and only where somebody meets that error.

    Without a reason, an error of a kind that has several would have that of ForemaskError.
    """
    import_module("foremask.cli.exits")  # adds the reasons of commands
    kinds = {each.name: each.kind.__name__ for each in REASONS.values()}
    unnamed = {"ForemaskError"} | {
        each.kind.__name__
        for each in REASONS.values()
        if each.kind.usual_reason == "internal" and each.name != "internal"
    }
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Name(id=kind) | ast.Attribute(attr=kind)):
                    given = [each.value for each in node.keywords if each.arg == "reason"]
                    assert given or kind not in unnamed, f"{path}:{node.lineno}"
                    for reason in given:
                        if kind in kinds.values() and isinstance(reason, ast.Constant):
                            assert kinds.get(str(reason.value)) == kind, f"{path}:{node.lineno}"
                case _:
                    pass
