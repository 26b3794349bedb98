"""The API's own process: it does not load what tests load, which takes as long as the API."""

import importlib
from collections.abc import Mapping

from foremask.service.api.application import run
from foremask.settings import Settings


def run_with(settings: Settings, constants: Mapping[str, float]) -> None:
    """Run the API with other values of the constants ``module.NAME``."""
    for name, number in constants.items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(f"foremask.service.{module}"), constant, number)
    run(settings)
