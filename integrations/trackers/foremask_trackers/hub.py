"""Brings a tracker's files from the Hugging Face Hub; huggingface_hub is imported only here.

The hub's library knows where the hub is (HF_ENDPOINT), the user's login and the size of each file.
`Download` brings the bytes: it goes on where an earlier process ended, and the weights are checked
against a SHA-256. The library does neither.
"""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Final

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.machine.locks import locked
from foremask.weights.download import Download, NotDownloaded, OnBytes, host_of, refused
from foremask.weights.pull import check_weights, remedy_for
from foremask_trackers.files import WEIGHTS, HubFiles

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
    from huggingface_hub import constants, get_token, hf_hub_url

    token = get_token()
    login = {} if token is None else {"authorization": f"Bearer {token}"}
    for name in (*files.others, WEIGHTS):
        url = hf_hub_url(
            files.repository, name, revision=files.revision, endpoint=constants.ENDPOINT
        )
        try:
            if name == WEIGHTS:
                weights = Download(url, staging / name, files.size_bytes, on_bytes, login)
                if shutil.disk_usage(staging).free < files.size_bytes - weights.here_bytes():
                    raise OSError(errno.ENOSPC, "No space left on device")
                weights.run()
                _check(files, staging, host_of(url))
            else:
                Download(url, staging / name, _size_of(url), lambda done, total: None, login).run()
        except NotDownloaded as error:
            raise _refusal(files, name, error) from error


def _size_of(url: str) -> int:
    """The size of a small file. Raises NotDownloaded if the hub does not say it."""
    import httpx2
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    host = host_of(url)
    try:
        size_bytes = get_hf_file_metadata(url).size
    except HfHubHTTPError as error:
        raise refused(host, error.response.status_code) from error
    except httpx2.TransportError as error:
        raise NotDownloaded(f"{host} cannot be reached ({error})") from error
    if not size_bytes or size_bytes > _MOST_SMALL_BYTES:
        raise NotDownloaded(f"{host} says that it has {size_bytes} bytes")
    return size_bytes


def _refusal(files: HubFiles, name: str, error: NotDownloaded) -> ModelUnavailable:
    login_hint = ""
    if error.status in (401, 403):
        login_hint = " to this login (`hf auth login` or HF_TOKEN sets another)"
        if files.is_gated:
            login_hint = (
                " without the login of an account that was let in"
                f" (ask at {files.page}, then `hf auth login` here)"
            )
    return ModelUnavailable(
        f"{name} of {files.name} could not be downloaded: {error}{login_hint}. Check the network,"
        " HTTPS_PROXY and HF_ENDPOINT, or bring the folder from another machine:"
        f" `foremask-trackers pull {files.name} --from FOLDER`"
    )


def _check(files: HubFiles, staging: Path, source: str) -> None:
    """Delete what is wrong, and raise ModelUnavailable."""
    check_weights(staging / WEIGHTS, files, files.name, f"{WEIGHTS} from {source}")
    for name in files.others:
        if name.endswith(".json"):
            try:
                json.loads((staging / name).read_bytes())
            except ValueError as error:
                (staging / name).unlink()
                raise ModelUnavailable(
                    f"{name} from {source} is no JSON ({error}): nothing of it is used"
                ) from error
