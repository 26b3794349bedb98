"""Checks that the confinement is enough; docs/security.md has what each level gives."""

import os

from foremask.errors import SettingsInvalid
from foremask.options import Device
from foremask.service.sandbox import confine
from foremask.service.sandbox.confine import LEAST_LANDLOCK, Level
from foremask.settings import Sandbox

_NEEDS = f"Landlock v{LEAST_LANDLOCK} (Linux 5.13) and seccomp (libseccomp 2)"


def check_level(wanted: Sandbox, level: Level, *, is_root: bool | None = None) -> None:
    """Raise SettingsInvalid where ``level`` is less than ``wanted`` accepts."""
    is_root = os.geteuid() == 0 if is_root is None else is_root
    if wanted is Sandbox.REQUIRE and not level.full:
        raise SettingsInvalid(
            f"FOREMASK_SANDBOX=require needs {_NEEDS}, and there is {level}: a clip that takes over"
            f" its decoder could {_could(level)}. FOREMASK_SANDBOX=best-effort accepts that.",
            param="FOREMASK_SANDBOX",
        )
    if wanted is Sandbox.BEST_EFFORT and is_root and level.landlock < LEAST_LANDLOCK:
        raise SettingsInvalid(
            f"As root without Landlock (there is {level}), a clip that takes over its decoder could"
            " change every file. Run foremask as another user, enable Landlock (Linux 5.13), or"
            " accept it with FOREMASK_SANDBOX=even-root.",
            param="FOREMASK_SANDBOX",
        )


def level_of(wanted: Sandbox) -> Level:
    """The level that children get on this machine; raises SettingsInvalid as `check_level` does."""
    level = Level() if wanted is Sandbox.OFF else confine.available()
    check_level(wanted, level)
    return level


def is_gpu(device: Device) -> bool:
    """Whether the device is a GPU by name; `auto` is not."""
    return device.on_gpu or device.unit.startswith(("GPU", "NPU"))


def check_device(device: Device, wanted: Sandbox) -> None:
    """Raise SettingsInvalid where the sandbox would keep the network from its device."""
    if is_gpu(device) and wanted is not Sandbox.OFF:
        raise SettingsInvalid(
            f"FOREMASK_DEVICE={device} needs FOREMASK_SANDBOX=off, for a confined child opens no"
            " device: do so only where the worker is confined otherwise, as in a container.",
            param="FOREMASK_DEVICE",
        )


def _could(level: Level) -> str:
    files = level.landlock < LEAST_LANDLOCK
    could = ["read and change every file that this user can"] * files
    could += ["connect to your network and signal other processes"] * (not level.seccomp)
    return ", and ".join(could)
