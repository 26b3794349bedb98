from pathlib import Path

import pytest

from foremask.weights.npm_settings import NpmSettings

URL = "https://npm.example.org/api/npm/@scope%2Ftiny"


def read(tmp_path: Path, text: str, **environ: str) -> NpmSettings:
    (tmp_path / "npmrc").write_text(text)
    nowhere = {"PATH": "", "npm_config_globalconfig": str(tmp_path / "absent")}
    return NpmSettings.read(nowhere | {"npm_config_userconfig": str(tmp_path / "npmrc")} | environ)


def test_a_variable_counts_more_than_the_users_file_and_that_more_than_the_systems(
    tmp_path: Path,
) -> None:
    (tmp_path / "global").write_text(
        "registry = https://a.example.org\nproxy=http://p.example.org\n"
    )
    own = "# mine\nregistry=https://b.example.org/npm\n"
    at = {"NPM_CONFIG_GLOBALCONFIG": str(tmp_path / "global")}
    nowhere = NpmSettings.read({"PATH": "", "npm_config_userconfig": str(tmp_path)})
    assert nowhere.registry_of("tiny") == "https://registry.npmjs.org/"
    assert read(tmp_path, "", **at).registry_of("tiny") == "https://a.example.org/"
    settings = read(tmp_path, own, **at)
    assert settings.registry_of("tiny") == "https://b.example.org/npm/"
    assert settings.proxy_for(URL) == "http://p.example.org"
    of_variable = read(tmp_path, own, **at, npm_config_registry="https://c.example.org")
    assert of_variable.registry_of("tiny") == "https://c.example.org/"


def test_the_npm_on_the_path_says_where_the_systems_file_is(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").touch(0o755)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "npmrc").write_text("registry=https://d.example.org")
    settings = NpmSettings.read(
        {
            "PATH": str(tmp_path / "bin"),
            "npm_config_userconfig": str(tmp_path / "absent"),
        }
    )
    assert settings.registry_of("tiny") == "https://d.example.org/"


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("//npm.example.org/:_authToken=abc", "Bearer abc"),
        ('//npm.example.org/api/npm/:_auth="dTpw"', "Basic dTpw"),
        ("//npm.example.org/:username=u\n//npm.example.org/:_password=cA==", "Basic dTpw"),
        ("//npm.example.org/:_authToken=${ABSENT?}", None),
        ("//npm.example.org/:_authToken=${ABSENT}", "Bearer ${ABSENT}"),
        ("//other.example.org/:_authToken=abc", None),
        ("_authToken=abc", None),
    ],
)
def test_a_login_is_that_of_the_longest_place(tmp_path: Path, text: str, login: str | None) -> None:
    assert read(tmp_path, text).login_for(URL).get("authorization") == login


def test_a_proxy_of_https_counts_more_than_that_of_all(tmp_path: Path) -> None:
    text = "proxy=http://p.example.org\nhttps-proxy=http://s.example.org\nnoproxy=example.com"
    settings = read(tmp_path, text)
    assert settings.proxy_for(URL) == "http://s.example.org"
    assert settings.proxy_for("http://npm.example.org/") == "http://p.example.org"
    assert settings.proxy_for("https://npm.example.com/") is None
    assert not settings.bypasses_proxy("https://notexample.com/")
    assert read(tmp_path, "https-proxy=null").proxy_for(URL) is None
