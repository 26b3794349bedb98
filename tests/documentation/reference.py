"""The generated pages of the commands and of the public names of Python."""

import enum
import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import dedent, fill
from typing import Annotated, get_args, get_origin

import foremask
from foremask.cli.commands import app

COMMANDS = """# Commands

Every command and option, as `foremask COMMAND --help` shows them. [The command line](cli.md)
explains how they work together, and has the exit codes.

"""
PYTHON = """# Python reference

Every public name of the package, with its docstring. [The Python guide](python.md) has recipes that
run.

"""
_WIDTH = 100


def commands_page() -> str:
    text = app.generate_docs()
    text = re.sub(r" -m [\w.]+", "", text[text.index("## foremask mask") :])
    text = re.sub(r"^#(#+)", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^# ", "## ", text, flags=re.MULTILINE)
    text = re.sub(r"^```console\n[^\n]*\n```\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(Parameters|Arguments)\*\*:\n\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^((?:foremask [^\n]*\n)+)", r"```text\n\1```\n", text, flags=re.MULTILINE)
    text = re.sub(r" *\*\*\[required\]\*\*| *\*\[default: False\]\*", "", text)
    text = re.sub(r"\*\[(choices|default|env): ([^\]]*)\]\*", r"(\1: \2)", text)
    return COMMANDS + re.sub(r"\n{3,}", "\n\n", _once("\n".join(_entries(text)))).strip() + "\n"


def man_page() -> str:
    lines = ['.TH FOREMASK 1 "" "foremask" "User Commands"', ".SH NAME"]
    lines += [r"foremask \- foreground masks for video: white is the foreground"]
    in_code = False
    for line in commands_page().split("\n", 5)[5].splitlines():
        text = re.sub(r"`|\[([^]]*)\]\([^)]*\)", r"\1", line).replace("\\", r"\e")
        text = text.replace("-", r"\-").replace("&lt;", "<")
        if line.startswith("```"):
            in_code = not in_code
            lines.append(".nf" if in_code else ".fi")
        elif not in_code and line.startswith("#"):
            lines.append(f".SH {text.lstrip('# ').upper()}")
        elif not in_code and line.startswith("* "):
            name, _, meaning = text[2:].partition(": ")
            lines += [".TP", rf"\fB{name}\fR", rf"\&{meaning.strip()}"]
        elif not in_code and not line:
            lines.append(".PP")
        else:
            lines.append(rf"\&{text.strip()}")
    return "\n".join(lines) + "\n"


def _once(text: str) -> str:
    """Explain options that several commands share once, at the top of the page."""
    entries = re.findall(r"^\* .*\n(?:  .*\n)*", text, flags=re.MULTILINE)
    options = [each for each in dict.fromkeys(entries) if each.startswith("* `--")]
    shared = [each for each in options if entries.count(each) > 1]
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    for number, section in enumerate(sections):
        also = [each for each in shared if each in section]
        for each in also:
            section = section.replace(each, "")
        section = re.sub(r"^(\* .*\n(?:  .*\n)*)\n(?=\* )", r"\1", section, flags=re.MULTILINE)
        names = ", ".join(each[2 : each.index("`", 3) + 1] for each in also)
        line = fill(f"And {names}.", _WIDTH, break_on_hyphens=False)
        sections[number] = f"{section.rstrip()}\n\n{line}\n\n" if also else section
    return "## Options of several commands\n\n" + "".join([*shared, "\n", *sections])


def _entries(text: str) -> Iterator[str]:
    """Wrap each entry of a list as one paragraph; code stays as it is."""
    entry: list[str] = []
    in_code = False
    for line in [*text.splitlines(), ""]:
        if not in_code and entry and line.startswith("    "):
            entry.append(line.strip())
            continue
        if entry:
            joined = " ".join(entry).replace("<", "&lt;")
            yield fill(joined, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            entry = []
        if line.startswith("```"):
            in_code = not in_code
        if not in_code and line.startswith("* "):
            entry = [line]
        else:
            yield line


def python_page() -> str:
    public = {name: getattr(foremask, name) for name in dir(foremask) if name[0] != "_"}
    classes = {name: each for name, each in public.items() if inspect.isclass(each)}
    errors = [name for name, kind in classes.items() if issubclass(kind, Exception)]
    parts = ["## Functions\n"]
    parts += [_function(name) for name, each in public.items() if inspect.isfunction(each)]
    parts += ["## Classes\n", *(_class(name) for name in classes if name not in errors)]
    kinds = ", ".join(f"`{name}`" for name in errors if name != "ForemaskError")
    parts += ["## Errors\n", _class("ForemaskError")]
    parts.append(fill(f"Of its kinds, {kinds} are public: [what each means](errors.md).", _WIDTH))
    return PYTHON + "\n".join(parts).rstrip() + "\n"


def _function(name: str) -> str:
    function = getattr(foremask, name)
    return f"### {name}\n\n{_signature(name, function)}\n\n{_prose(function)}\n"


def _class(name: str) -> str:
    kind = getattr(foremask, name)
    if issubclass(kind, enum.Enum):
        values = ", ".join(f"`{each.value}`" for each in kind)
        return f"### {name}\n\n{_prose(kind)}\n\n{fill(f'Values: {values}.', _WIDTH)}\n"
    signature = "" if issubclass(kind, Exception | dict) else f"{_signature(name, kind)}\n\n"
    text = f"### {name}\n\n{signature}{_prose(kind)}\n"
    for member, value in vars(kind).items():
        is_shown = inspect.isfunction(value) or isinstance(value, property | classmethod)
        if is_shown and not member.startswith("_") and (doc := inspect.getdoc(value)):
            line = f"`{name}.{member}`: {_code(doc)}"
            text += f"\n{fill(line, _WIDTH, break_on_hyphens=False)}\n"
    return text


def _signature(name: str, called: Callable[..., object]) -> str:
    """The call as a block of code; for a class of results, only the names of its fields."""
    found = inspect.signature(called)
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    is_answer = [each.default for each in parameters].count(inspect.Parameter.empty) > 4
    shown = [each.name if is_answer else _parameter(each) for each in parameters]
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and not is_answer:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    returned = found.return_annotation
    arrow = f" -> {_plain(returned)}" if returned not in (inspect.Signature.empty, None) else ""
    line = fill(f"{name}({', '.join(shown)}){arrow}", 90, subsequent_indent="    ")
    return f"```text\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    default = parameter.default
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return f"**{parameter.name}"
    if default is inspect.Parameter.empty:
        return f"{parameter.name}: {_plain(parameter.annotation)}"
    if isinstance(default, enum.Enum):  # the default shows the type
        return f"{parameter.name}={type(default).__name__}.{default.name}"
    is_plain = isinstance(default, str | int | float | bool | tuple | None)
    return (
        f"{parameter.name}={default!r}"
        if is_plain
        else f"{parameter.name}={type(default).__name__}()"
    )


def _plain(annotation: object) -> str:
    if get_origin(annotation) is Annotated:  # ranges, for decoding
        annotation = get_args(annotation)[0]
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:foremask|numpy|collections|typing|pathlib)(?:\.\w+)*\.(?=\w)", "", text)


def _prose(documented: object) -> str:
    paragraphs = dedent(inspect.getdoc(documented) or "").split("\n\n")
    return "\n\n".join(fill(_code(each), _WIDTH, break_on_hyphens=False) for each in paragraphs)


def _code(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")
