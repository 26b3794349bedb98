import ipaddress
import os
import re
from pathlib import Path

import pytest

from foremask.errors import SettingsInvalid
from foremask.machine import paths
from foremask.options import Device, Runtime
from foremask.settings import VARIABLES, Sandbox, read_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.mark.parametrize(
    ("environ", "data_dir", "cache_dir"),
    [
        ({"HOME": "/h"}, "/h/.local/share/foremask", "/h/.cache/foremask"),
        (
            {"HOME": "/h", "XDG_CACHE_HOME": "relative", "XDG_DATA_HOME": "/data"},
            "/data/foremask",
            "/h/.cache/foremask",
        ),
    ],
)
def test_directories_are_those_of_xdg(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], data_dir: str, cache_dir: str
) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, environ.get(name, ""))
    settings = read_settings({})
    assert (settings.data_dir, settings.model_dir) == (Path(data_dir), Path(cache_dir))


NETWORKS = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("DATA_DIR", "/srv/foremask", "data_dir", Path("/srv/foremask")),
        ("PUBLIC_URL", "https://masks.example.com/", "base_url", "https://masks.example.com"),
        ("ALLOW_PRIVATE", "127.0.0.0/8, fd00::/8", "allow_private", NETWORKS),
        ("RESULT_TTL", "12h", "result_ttl_s", 12 * 3600),
        ("JOB_MEMORY", "20G", "job_memory", 20 << 30),
        ("SANDBOX", "require", "sandbox", Sandbox.REQUIRE),
        ("PORT", "80", "port", 80),
        ("MODEL_FILE", "", "model_file", None),
        ("NETWORK", "u2net", "network", "u2net"),
        ("NETWORKS", "u2net, ben2,", "networks", ("u2net", "ben2")),
        ("TRACKERS", "edgetam, sam3", "trackers", ("edgetam", "sam3")),
        ("DEVICE", "openvino:gpu.1", "device", Device(Runtime.OPENVINO, "GPU.1")),
    ],
)
def test_a_setting_is_read_from_its_variable(
    variable: str, text: str, field: str, value: object
) -> None:
    assert getattr(read_settings({f"FOREMASK_{variable}": text}), field) == value


def test_a_flag_wins_over_the_environment_unless_it_is_none() -> None:
    environ = {"FOREMASK_PORT": "8001", "FOREMASK_HOST": "::1"}
    settings = read_settings(environ, port=9000, host=None, sandbox="off")
    assert (settings.port, settings.sandbox) == (9000, Sandbox.OFF)
    assert settings.base_url == "http://[::1]:9000"
    with pytest.raises(SettingsInvalid, match="FOREMASK_PORT"):
        read_settings({}, port=99999)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("FOREMASK_PORT", "http", "a whole number from 1 to 65535"),
        ("FOREMASK_PORT", "70000", "a whole number from 1 to 65535"),
        ("FOREMASK_PORT", "٣", "a whole number from 1 to 65535"),
        ("FOREMASK_RESULT_TTL", "a month", "a duration such as"),
        ("FOREMASK_JOB_MEMORY", "much", "a number of bytes such as"),
        ("FOREMASK_DEVICE", "abacus", "one of auto, cpu"),
        ("FOREMASK_ALLOW_PRIVATE", "10.0.0.1/8", "host bits set"),
        ("FOREMASK_SANDBOX", "on", "one of require, best-effort, even-root, off"),
        ("FOREMASK_PUBLIC_URL", "masks.example.com", "http:// or https://"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(
    name: str, text: str, expected: str
) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        read_settings({name: text})
    assert refused.value.param == name
    assert repr(text) in refused.value.details
    assert expected in refused.value.details


def test_an_unknown_name_is_refused_with_a_suggestion() -> None:
    with pytest.raises(SettingsInvalid, match="did you mean FOREMASK_DATA_DIR"):
        read_settings({"FOREMASK_DATADIR": "/srv"})
    with pytest.raises(SettingsInvalid, match=r"docs/settings\.md"):
        read_settings({"FOREMASK_ZZZ": "1"})


@pytest.mark.parametrize(
    ("given", "is_local"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0"}, False),  # noqa: S104
        ({"host": "studio.example"}, False),
        ({"public_url": "https://masks.example"}, False),  # a proxy passes others on
    ],
)
def test_a_service_is_local_if_only_this_machine_reaches_it(
    given: dict[str, str], is_local: bool
) -> None:
    assert read_settings({}, **given).is_local is is_local


def test_variables_that_are_no_settings_are_left_alone() -> None:
    others = {"FOREMASK_DATA": "/any", "FOREMASK_SERVER": "any", "FOREMASK_TOKEN": "any"}
    assert read_settings({"PATH": "/bin", **others}) == read_settings({})


def test_secrets_show_neither_in_repr_nor_in_errors() -> None:
    settings = read_settings(
        {
            "FOREMASK_DATABASE_URL": "postgresql://someone:hush@db/foremask",
            "FOREMASK_BOOTSTRAP_TOKEN": "hush-hush-hush-hush\n",
        }
    )
    assert settings.bootstrap_token == "hush-hush-hush-hush"
    assert "hush" not in repr(settings)
    with pytest.raises(SettingsInvalid) as refused:
        read_settings({"FOREMASK_BOOTSTRAP_TOKEN": "hush hush"})
    assert "hush" not in refused.value.details


def test_the_page_has_every_setting_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name for name, _ in rows] == list(VARIABLES)
    for name, default in rows:
        if re.fullmatch(r"`[^$]\S*`", default) and "HOST" not in default:
            field = VARIABLES[name]
            read = read_settings({name: default.strip("`")})
            assert getattr(read, field) == getattr(read_settings({}), field)


def test_a_user_without_a_home_names_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert not paths.data_dir().exists()
    assert read_settings({"FOREMASK_DATA_DIR": "/data"}).data_dir == Path("/data")
