"""Move foremask into the rooms of issue 15 and give its names the field's terms.

Run it in the root of a clean checkout of the old layout, with a Python of at least 3.12:

    python restructure.py [--check]

It moves files with `git mv`, rewrites imports, dotted names, paths and identifiers, and stops with a sentence
where it meets what it does not know. It commits nothing. `--check` says what it would do and changes nothing.
The tables are in `moves.py` (files) and `names.py` (identifiers), beside this file.
"""

import ast
import difflib
import fnmatch
import io
import keyword
import re
import shutil
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from moves import BENCHMARKS, BENCHMARKS_DEFAULT, DIRECTORIES, DOC_PATCHES, MODULES, PATCHES, TESTS, TEST_DIRECTORIES  # noqa: E402
from names import ALLOWED_CONFLICTS, KEPT_BINDINGS, RULES, STRINGS  # noqa: E402

DOC_NAMES = {old.partition("@")[0]: new for scope, table in RULES[:1] for old, new in table.items()}
problems: list[str] = []
notes: list[str] = []


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


# ---------------------------------------------------------------------------------------------- 1. where files go


def destination(path: str) -> str:
    """The new path of a tracked file; adds to ``problems`` where nobody has said."""
    if path.startswith("src/foremask/"):
        inner = path.removeprefix("src/foremask/")
        if inner in MODULES:
            return "src/foremask/" + MODULES[inner]
        head, _, rest = inner.partition("/")
        if not rest:
            problems.append(f"{path}: no rule says which room it belongs to; add it to MODULES in moves.py")
            return path
        if head not in DIRECTORIES:
            problems.append(f"{path}: no rule for the directory {head}/; add it to DIRECTORIES in moves.py")
            return path
        if head == "vision" and rest.endswith(".py") and rest != "__init__.py":
            notes.append(f"{path} is new and stays directly under vision/: move it into a room by hand")
        return f"src/foremask/{DIRECTORIES[head]}/{rest}"
    if path.startswith("tests/"):
        inner = path.removeprefix("tests/")
        if inner in TESTS:
            return "tests/" + TESTS[inner]
        head, _, rest = inner.partition("/")
        if not rest:
            problems.append(f"{path}: no rule says where this test goes; add it to TESTS in moves.py")
            return path
        if head not in TEST_DIRECTORIES:
            problems.append(f"{path}: no rule for tests/{head}/; add it to TEST_DIRECTORIES in moves.py")
            return path
        if head == "vision" and rest.endswith(".py") and rest != "__init__.py":
            notes.append(f"{path} is new and stays directly under tests/vision/: move it by hand")
        return f"tests/{TEST_DIRECTORIES[head]}/{rest}"
    if path.startswith("benchmarks/"):
        inner = path.removeprefix("benchmarks/")
        if inner in BENCHMARKS:
            return "benchmarks/" + BENCHMARKS[inner]
        if inner.count("/") == 0 and inner.endswith(".py"):
            notes.append(f"{path} is new and goes to benchmarks/{BENCHMARKS_DEFAULT}/: is that its folder?")
            return f"benchmarks/{BENCHMARKS_DEFAULT}/{inner}"
    return path


def dotted(path: str) -> str | None:
    """The module of a Python file."""
    if not path.endswith(".py"):
        return None
    name = path.removeprefix("src/").removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


# ------------------------------------------------------------------------------------- 2. imports and dotted names


class Imports(ast.NodeVisitor):
    """Import statements with new modules, and what their bindings are called now."""

    def __init__(self, modules: dict[str, str], path: str) -> None:
        self.modules = modules
        self.path = path
        self.edits: list[tuple[ast.stmt, list[str]]] = []
        self.bindings: dict[str, str] = {}

    def visit_Import(self, node: ast.Import) -> None:
        statements = []
        for name in node.names:
            new = self.modules.get(name.name, name.name)
            statements.append(f"import {new}" + (f" as {name.asname}" if name.asname else ""))
        if any(name.name in self.modules for name in node.names):
            self.edits.append((node, statements))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            return
        groups: dict[str, list[str]] = {}
        changed = False
        for name in node.names:
            whole = f"{node.module}.{name.name}"
            alias = f" as {name.asname}" if name.asname else ""
            if whole in self.modules:
                parent, _, leaf = self.modules[whole].rpartition(".")
                if (self.path, name.name) in KEPT_BINDINGS:
                    alias = alias or f" as {name.name}"
                changed |= (parent, leaf) != (node.module, name.name)
                groups.setdefault(parent, []).append(leaf + alias)
                if leaf != name.name and not alias:
                    self.bindings[name.name] = leaf
            else:
                parent = self.modules.get(node.module, node.module)
                changed |= parent != node.module
                groups.setdefault(parent, []).append(name.name + alias)
        if changed:
            self.edits.append((node, [f"from {m} import {', '.join(n)}" for m, n in groups.items()]))


def with_new_imports(text: str, modules: dict[str, str], path: str) -> tuple[str, dict[str, str]]:
    visitor = Imports(modules, path)
    visitor.visit(ast.parse(text))
    lines = text.splitlines(keepends=True)
    for node, statements in sorted(visitor.edits, key=lambda e: -e[0].lineno):
        first, last = node.lineno - 1, node.end_lineno - 1
        head = lines[first].encode()[: node.col_offset].decode()
        tail = lines[last].encode()[node.end_col_offset :].decode()
        inner = "".join(lines[first : last + 1])
        comments = []
        if first != last:
            for token in tokenize.generate_tokens(io.StringIO(inner.strip() + "\n").readline):
                if token.type == tokenize.COMMENT and token.string.strip() not in tail:
                    comments.append(token.string)
        pad = head if not head.strip() else re.match(r"\s*", head)[0]
        body = ("\n" + pad).join(statements)
        if comments:
            tail = "  " + "  ".join(comments) + tail
        if len(statements) > 1 and tail.strip().startswith("#"):  # the remark belongs to the first
            one, *rest = statements
            body, tail = one + tail.rstrip("\n") + "\n" + pad + ("\n" + pad).join(rest), "\n"
        lines[first : last + 1] = [head + body + tail]
    return "".join(lines), visitor.bindings


def with_dotted_names(text: str, modules: dict[str, str]) -> str:
    """Replace module names inside strings, comments and other languages."""

    def replace(found: re.Match[str]) -> str:
        parts = found[0].split(".")
        for size in range(len(parts), 0, -1):
            prefix = ".".join(parts[:size])
            if prefix in modules and not (size == 1):
                return ".".join([modules[prefix], *parts[size:]])
        return found[0]

    return re.sub(r"(?<![\w./-])(?:foremask|tests|benchmarks)(?:\.[A-Za-z_]\w*)+", replace, text)


def outside_imports(text: str, modules: dict[str, str]) -> str:
    """`with_dotted_names` for a Python file whose imports are new already."""
    imports = {
        row for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)
        for row in range(node.lineno, node.end_lineno + 1)
    }
    lines = text.splitlines(keepends=True)
    return "".join(
        line if row in imports else with_dotted_names(line, modules) for row, line in enumerate(lines, 1)
    )


def with_paths(text: str, paths: dict[str, str]) -> str:
    """Replace paths of moved files and directories."""

    def replace(found: re.Match[str]) -> str:
        path = found[0]
        bare = path.rstrip("/.")
        for size in range(len(bare.split("/")), 1, -1):
            prefix = "/".join(bare.split("/")[:size])
            if prefix in paths:
                return paths[prefix] + path[len(prefix) :]
        return path

    return re.sub(r"(?<![\w./-])(?:src/foremask|tests|benchmarks)/[\w./@-]*\w/?", replace, text)


def short_path(found: re.Match[str]) -> str:
    """`video/demux.py` as the documentation names a module: from src/foremask, or by its name alone."""
    path = found[1]
    if path in MODULES:
        return f"`{MODULES[path]}`"
    head, _, rest = path.partition("/")
    if rest and head in DIRECTORIES and Path("src/foremask", path).exists():
        return f"`{DIRECTORIES[head]}/{rest}`"
    named = [new for old, new in MODULES.items() if old.rpartition("/")[2] == path]
    return f"`{named[0]}`" if not rest and len(named) == 1 else found[0]


# ------------------------------------------------------------------------------------------------- 3. identifiers


def spans_of_functions(text: str) -> list[tuple[int, int, str]]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append((node.lineno, node.end_lineno, node.name))
    return found


def rules_for(path: str) -> list[tuple[str | None, str, str, str]]:
    """(function or None, old, kind, new) of all rules whose scope has this path, in order."""
    found = []
    for scope, table in RULES:
        globs, _, function = scope.partition("::")
        if any(fnmatch.fnmatch(path, glob) for glob in globs.split()):
            for old, new in table.items():
                name, _, kind = old.partition("@")
                found.append((function or None, name, kind or "any", new))
    return found


def quoted_types(text: str) -> list[tuple[int, int, int, str]]:
    """Names written as strings: annotations, ``__all__``, test parameters, attributes: row, columns, text."""
    found = []
    for node in ast.walk(ast.parse(text)):
        roots: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            roots = [node.annotation]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            roots = [node.returns]
        elif isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            roots = [node.value]
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("parametrize", "usefixtures"):
                roots = [node.args[0]]
            elif called in ("setattr", "getattr", "hasattr", "delattr") and len(node.args) > 1:
                roots = [node.args[1]]
        for root in filter(None, roots):
            for each in ast.walk(root):
                if isinstance(each, ast.Constant) and isinstance(each.value, str):
                    if each.end_col_offset - each.col_offset == len(each.value) + 2:
                        found.append((each.lineno, each.col_offset, each.end_col_offset, each.value))
    return sorted(set(found))


QUOTED = re.compile(r"``[^`\n]+``|`[^`\n]+`")
UNMISTAKABLE = re.compile(r"(?<![\w.])(?:_?[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+|_?[A-Z0-9]+(?:_[A-Z0-9]+)+)(?!\w)")
"""Names that no sentence uses as a word: CamelCase of two humps, and CONSTANTS of two words."""


def with_new_names(path: str, text: str, bindings: dict[str, str]) -> str:
    rules = rules_for(path)
    functions = spans_of_functions(text)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    lines = text.splitlines(keepends=True)
    depths, depth = [], 0
    for token in tokens:
        depth += (token.type == tokenize.OP) * ((token.string in "([{") - (token.string in ")]}"))
        depths.append(depth)
    edits: list[tuple[int, int, int, str]] = []
    used: dict[str, set[str]] = defaultdict(set)
    import_lines = {
        row for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)
        for row in range(node.lineno, node.end_lineno + 1)
    }

    present = Counter(
        t.string for i, t in enumerate(tokens)
        if t.type == tokenize.NAME and not (i and tokens[i - 1].string == ".")
        and not (t.start[0] in import_lines and t.string in bindings.values())
    )

    def inside(row: int, name: str) -> bool:
        return any(first <= row <= last and function == name for first, last, function in functions)

    def new_name(i: int) -> str | None:
        token = tokens[i]
        before = tokens[i - 1].string if i else ""
        after = tokens[i + 1].string if i + 1 < len(tokens) else ""
        row = token.start[0]
        attribute = before == "."
        if token.string in bindings and not attribute and row not in import_lines:
            if after != "=" or not depths[i]:  # a keyword argument is another's word
                return bindings[token.string]
        answer = None
        for function, old, kind, new in rules:
            if old != token.string or (function and not inside(row, function)):
                continue
            called = before in ("def", "class") or after in ("(", "[") and before == "def" or (
                not attribute and after == "(") or row in import_lines
            if kind == "attr" and not attribute:
                continue
            if kind == "name" and attribute:
                continue
            if kind == "func" and not called:
                continue
            if kind == "var" and (called or attribute):
                continue
            answer = new
        return answer

    for i, token in enumerate(tokens):
        row, column = token.start
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            if lines[row - 1][column : token.end[1]] != token.string:
                problems.append(f"{path}:{row}: the tokenizer's column is wrong for {token.string!r}")
                continue
            new = new_name(i)
            if new is not None and new != token.string:
                edits.append((row, column, token.end[1], new))
                if not (i and tokens[i - 1].string == "."):
                    used[new].add(token.string)
    table = {old: new for function, old, kind, new in rules if function is None and kind in ("any", "func")}
    table |= bindings
    for token in tokens:
        plain = token.type == tokenize.COMMENT or (
            token.type == tokenize.STRING and token.string.lstrip("rbf").startswith('"""'))
        if not plain:
            continue

        def words(quoted: re.Match[str]) -> str:
            return re.sub(r"(?<![\w\"'])[A-Za-z_]\w*", lambda w: table.get(w[0], w[0]), quoted[0])

        replaced = QUOTED.sub(words, token.string)
        replaced = UNMISTAKABLE.sub(lambda w: table.get(w[0], w[0]), replaced)
        if replaced != token.string:
            old_lines, new_lines = token.string.split("\n"), replaced.split("\n")
            for offset, (a, b) in enumerate(zip(old_lines, new_lines, strict=True)):
                if a != b:
                    start = token.start[1] if offset == 0 else 0
                    edits.append((token.start[0] + offset, start, start + len(a), b))
    for row, start, end, value in quoted_types(text):
        replaced = re.sub(r"[A-Za-z_]\w*", lambda w: table.get(w[0], w[0]), value)
        if replaced != value:
            edits.append((row, start + 1, end - 1, replaced))
    renamed = {old for olds in used.values() for old in olds}
    for new, olds in used.items():
        if present[new] and new not in renamed and (path, new) not in ALLOWED_CONFLICTS:
            problems.append(f"{path}: {', '.join(sorted(olds))} would become {new}, which the file has already")
        if len(olds) > 1 and (path, new) not in ALLOWED_CONFLICTS:
            problems.append(f"{path}: {' and '.join(sorted(olds))} would both become {new}")
    for row, start, end, new in sorted(edits, reverse=True):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + new + line[end:]
    return "".join(lines)


# ----------------------------------------------------------------------------------------------------------- run


def deeper(path: str, new: str, text: str) -> str:
    """`Path(__file__).parents[n]` counts the folders of the new place."""
    change = new.count("/") - path.count("/")
    if not change:
        return text
    text = text.replace("Path(__file__).parent.parent", "Path(__file__).parents[1]")
    if path.startswith("src/"):  # counts from the package: patched by hand
        return text
    return re.sub(
        r"Path\(__file__\)\.parents\[(\d+)\]",
        lambda m: f"Path(__file__).parents[{int(m[1]) + change}]", text,
    )


def main() -> None:
    check = "--check" in sys.argv
    if not Path("src/foremask/pipeline.py").is_file():
        sys.exit("This is not the root of a checkout in the old layout: src/foremask/pipeline.py is not there.")
    if git("status", "--porcelain"):
        sys.exit("The checkout is not clean: commit or remove what `git status` shows.")
    tracked = git("ls-files").splitlines()
    where = {path: destination(path) for path in tracked}
    for new, number in Counter(where.values()).items():
        if number > 1:
            problems.append(f"{new}: {number} files would go there")
    stems = defaultdict(set)
    for new in where.values():
        if new.startswith("src/foremask/") and new.endswith(".py"):
            pure = PurePosixPath(new)
            if pure.stem != "__init__":
                stems[pure.stem].add(new)
            for folder in pure.parents:
                if str(folder).startswith("src/foremask/"):
                    stems[folder.name].add(str(folder))
    for stem, paths in stems.items():
        if len(paths) > 1:
            problems.append(f"two files or folders are called {stem}: {', '.join(sorted(paths))}")
    root = [new for new in where.values() if re.fullmatch(r"src/foremask/\w+\.py", new)]
    if len(root) > 7:
        problems.append(f"{len(root)} modules in the root: {', '.join(root)}")
    modules, paths = {}, {}
    for old, new in where.items():
        if old != new:
            paths[old] = new
            if (name := dotted(old)) and (target := dotted(new)):
                if not old.endswith("__init__.py") or name != "foremask":
                    modules[name] = target
    for old, new in DIRECTORIES.items():
        if old != new:
            paths[f"src/foremask/{old}"] = f"src/foremask/{new}"
            modules[f"foremask.{old}"] = "foremask." + new.replace("/", ".")
    for old, new in TEST_DIRECTORIES.items():
        if old != new:
            paths[f"tests/{old}"] = f"tests/{new}"
            modules[f"tests.{old}"] = "tests." + new.replace("/", ".")
    stop("Nothing was changed.")

    texts: dict[str, str] = {}
    for old, new in where.items():
        path = Path(old)
        if path.suffix in {".png", ".webp", ".jpg", ".webm", ".mp4"} or path.is_symlink() or old == "uv.lock":
            continue
        text = original = path.read_text(encoding="utf-8")
        if old.endswith(".py"):
            try:
                text, bindings = with_new_imports(text, modules, new)
            except SyntaxError as error:
                problems.append(f"{old}: {error}")
                continue
            text = with_new_names(new, text, bindings)
            text = deeper(old, new, text)
        if not old.startswith((".ci", "LICENSE")):
            text = outside_imports(text, modules) if old.endswith(".py") else with_dotted_names(text, modules)
            text = with_paths(text, paths)
        for scope, before, after in STRINGS:
            if any(fnmatch.fnmatch(new, glob) for glob in scope.split()):
                text = text.replace(before, after)
        if new.startswith("docs/") and new.endswith(".md"):
            text = UNMISTAKABLE.sub(lambda w: DOC_NAMES.get(w[0], w[0]), text)
        if new.endswith((".md", ".py")):
            text = re.sub(r"`([a-z_]+(?:/[a-z_0-9]+)*\.(?:py|json))`", short_path, text)
        if new.endswith((".md", ".txt")):
            for before, after in DOC_PATCHES:
                text = text.replace(before, after)
        for target, before, after, needed in PATCHES:
            if target == new:
                if before not in text:
                    if needed:
                        problems.append(f"{new}: the patch for {before[:60]!r} finds nothing")
                    continue
                text = text.replace(before, after)
        if text != original:
            texts[new] = text
    patched_pyproject(texts)
    stop("Nothing was changed.")
    for note in notes:
        print("note:", note)
    if check:
        print(f"{sum(a != b for a, b in where.items())} files would move, {len(texts)} would change")
        return
    for old, new in where.items():
        if old != new:
            Path(new).parent.mkdir(parents=True, exist_ok=True)
    for old, new in where.items():  # through a side name: one file may go where another was
        if old != new:
            git("mv", old, f"{new}.moving")
    for old, new in where.items():
        if old != new:
            git("mv", f"{new}.moving", new)
    for new, text in texts.items():
        Path(new).write_text(text, encoding="utf-8")
    for source in sorted((HERE / "overlay").rglob("*")):
        if source.is_file():
            target = Path(source.relative_to(HERE / "overlay"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for top in ("src/foremask", "tests", "benchmarks"):
        for folder in [Path(top), *Path(top).rglob("*")]:
            if folder.is_dir() and any(folder.rglob("*.py")) and folder.name != "__pycache__":
                (folder / "__init__.py").touch()
    for folder in sorted(Path("src/foremask").rglob("*"), reverse=True):
        if folder.is_dir() and folder.name == "__pycache__":
            shutil.rmtree(folder)
    for top in ("src/foremask", "tests", "benchmarks"):
        for folder in sorted(Path(top).rglob("*"), reverse=True):
            if folder.is_dir() and (folder.name == "__pycache__" or not any(folder.iterdir())):
                shutil.rmtree(folder)
    git("add", "-A")
    print("moved; now: make format lint docs, then the tests")


def patched_pyproject(texts: dict[str, str]) -> None:
    """The import contracts of the new layout, if those of the old are what contracts.toml was written against."""
    text = texts.get("pyproject.toml") or Path("pyproject.toml").read_text(encoding="utf-8")
    original = Path("pyproject.toml").read_text(encoding="utf-8")
    marker = "[tool.importlinter]"
    known = (HERE / "contracts-before.toml").read_text(encoding="utf-8")
    found = marker + original.partition(marker)[2]
    if found.strip() != known.strip():
        print("note: the import contracts changed since contracts.toml was written; carry this over by hand:")
        print("".join(difflib.unified_diff(known.splitlines(True), found.splitlines(True), "known", "found")))
    texts["pyproject.toml"] = text.partition(marker)[0] + (HERE / "contracts.toml").read_text(encoding="utf-8")


def stop(then: str) -> None:
    if problems:
        print("\n".join(problems))
        sys.exit(f"{len(problems)} problems. {then}")


if __name__ == "__main__":
    main()
