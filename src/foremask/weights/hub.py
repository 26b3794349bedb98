"""Brings a tracker's files from the Hugging Face Hub; huggingface_hub is imported only here.

The hub's library knows where the hub is (HF_ENDPOINT), the user's login and the size of each file.
`Download` brings the bytes: it goes on where an earlier process ended, and the weights are checked
against a SHA-256. The library does neither.
"""

import errno
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked
from foremask.weights.download import Download, OnBytes, file_client, refused_with
from foremask.weights.pull import check_weights, remedy_for
from foremask.weights.trackers import EXTRA, WEIGHTS, HubFiles

if TYPE_CHECKING:  # importing httpx2 takes a tenth of a second
    import httpx2

_MOST_SMALL_BYTES: Final = 64 * 2**20  # of a configuration or vocabulary


def pull_files(
    files: HubFiles,
    model_dir: Path | None = None,
    on_bytes: OnBytes = lambda done, total: None,
    *,
    brought: Path | None = None,
) -> Path:
    """Download the files into their folder in ``model_dir``, unless they are there; return it.

    ``brought``, a folder from another machine, replaces the download. Of two pulls at the same
    time, one downloads and one waits. ``on_bytes`` counts the weights' bytes, and may raise to
    abort. Raises ModelUnavailable with the remedy.
    """
    root = model_dir or paths.cache_dir()
    folder = root / files.name
    if files.are_in(folder):
        return folder
    staging = root / f".pull-{files.name}"
    try:
        staging.mkdir(parents=True, exist_ok=True)
        on_bytes(0, files.size_bytes)
        with locked(root / f".pull-{files.name}.lock"):
            if not files.are_in(folder):
                staging.mkdir(exist_ok=True)  # another pull may have removed it
                if brought is None:
                    _download(files, staging, on_bytes)
                else:
                    _copy(files, staging, brought)
                folder.mkdir(exist_ok=True)
                for name in (*files.others, WEIGHTS):  # the weights last: the folder is whole then
                    (staging / name).replace(folder / name)
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ModelUnavailable(remedy_for(error, root, files.size_bytes)) from error
    return folder


def _copy(files: HubFiles, staging: Path, brought: Path) -> None:
    missing = [name for name in (*files.others, WEIGHTS) if not (brought / name).is_file()]
    if missing:
        raise ModelUnavailable(
            f"{brought} is not the folder of {files.name}: it has no {', '.join(missing)}"
        )
    for name in (*files.others, WEIGHTS):
        shutil.copyfile(brought / name, staging / name)
    _check(files, staging, str(brought))


def _download(files: HubFiles, staging: Path, on_bytes: OnBytes) -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before the library is imported
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise ModelUnavailable(
            f"`pip install '{EXTRA}'` brings huggingface_hub, which fetches {files.name}"
        ) from error
    for name in files.others:
        small = _HubFile(files, name)
        small.ask_size()
        Download(small, staging / name, lambda done, total: None).run()
    weights = _HubFile(files, WEIGHTS)
    weights.size_bytes = files.size_bytes
    download = Download(weights, staging / WEIGHTS, on_bytes)
    if shutil.disk_usage(staging).free < files.size_bytes - download.here_bytes():
        raise OSError(errno.ENOSPC, "No space left on device")
    download.run()
    _check(files, staging, weights.host)


def _check(files: HubFiles, staging: Path, source: str) -> None:
    """Delete what is wrong, and raise ModelUnavailable."""
    check_weights(staging / WEIGHTS, files, f"{WEIGHTS} from {source}")
    for name in files.others:
        if name.endswith(".json"):
            try:
                json.loads((staging / name).read_bytes())
            except ValueError as error:
                (staging / name).unlink()
                raise ModelUnavailable(
                    f"{name} from {source} is no JSON ({error}): nothing of it is used"
                ) from error


class _HubFile:
    """A file of a repository on the hub: an `Origin`."""

    def __init__(self, files: HubFiles, name: str) -> None:
        from huggingface_hub import constants, hf_hub_url

        self._files = files
        self._name = name
        self._url = hf_hub_url(
            files.repository, name, revision=files.revision, endpoint=constants.ENDPOINT
        )
        self.size_bytes = 0
        self.host = urlsplit(self._url).netloc

    @property
    def login_hint(self) -> str:
        if self._files.is_gated:
            return (
                " without the login of an account that was let in"
                f" (ask at {self._files.page}, then `hf auth login` here)"
            )
        return " to this login (`hf auth login` or HF_TOKEN sets another)"

    def ask_size(self) -> None:
        """Raises ModelUnavailable if the hub does not say it."""
        import httpx2
        from huggingface_hub import get_hf_file_metadata
        from huggingface_hub.errors import HfHubHTTPError

        refusal = partial(self.refusal, arrived="")
        try:
            size_bytes = get_hf_file_metadata(self._url).size
        except HfHubHTTPError as error:
            what = refused_with(error.response.status_code, self.login_hint)
            raise refusal(what) from error
        except httpx2.TransportError as error:
            raise refusal(f"cannot be reached ({error})") from error
        if not size_bytes or size_bytes > _MOST_SMALL_BYTES:
            raise refusal(f"says that it has {size_bytes} bytes")
        self.size_bytes = size_bytes

    def client(self) -> "httpx2.Client":
        return file_client()

    def url(self, download: Download, client: "httpx2.Client") -> str:
        return self._url

    def login_for(self, url: str) -> dict[str, str]:
        """The user's login at the hub; the client sends it to no other host."""
        from huggingface_hub import get_token

        token = get_token()
        if token is None:
            return {}
        return {"authorization": f"Bearer {token}"}

    def refusal(self, what: str, arrived: str) -> ModelUnavailable:
        files = self._files
        return ModelUnavailable(
            f"{self._name} of {files.name} comes from {self.host}, which {what}: {arrived}check"
            " the network, HTTPS_PROXY and HF_ENDPOINT, or bring the folder from another machine:"
            f" `foremask models pull {files.name} --from FOLDER`"
        )
