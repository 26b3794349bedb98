import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from foremask.errors import ModelUnavailable
from foremask.weights import download as under_test
from foremask.weights.npm_registry import download
from tests.support.npm_registry import (
    PACKAGE,
    PACKED,
    RECORD_PATH,
    TARBALL_PATH,
    Registry,
    npm_registry,
)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setattr(under_test, "PAUSES_S", (0.01, 0.01))
    with npm_registry() as registry:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        yield registry


def bring(folder: Path) -> bytes:
    return download(PACKAGE, folder, lambda _done, _total: None).read_bytes()


def test_a_connection_that_breaks_is_taken_up_where_it_ended(
    tmp_path: Path, registry: Registry
) -> None:
    registry.cuts = [100, 200, 300]
    assert bring(tmp_path) == PACKED
    assert registry.downloads == [None, "bytes=100-", "bytes=300-", "bytes=600-"]


def test_a_registry_that_takes_no_ranges_sends_everything_again(
    tmp_path: Path, registry: Registry
) -> None:
    registry.takes_ranges = False
    registry.cuts = [100]
    assert bring(tmp_path) == PACKED
    assert registry.downloads == [None, "bytes=100-"]


def test_a_busy_registry_is_asked_again_and_then_no_more(
    tmp_path: Path, registry: Registry
) -> None:
    registry.statuses = [503, 429]
    assert bring(tmp_path) == PACKED
    (tmp_path / PACKAGE.tarball_name).unlink()
    registry.statuses = [503] * 10
    with pytest.raises(ModelUnavailable, match="answered 503"):
        bring(tmp_path)
    assert len(registry.statuses) == 7


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, r"refuses it \(401\): is its login in your \.npmrc\?"),
        (404, r"does not have it \(404\).*npm pack @scope/tiny@1\.0\.0"),
        (410, "answered 410"),
    ],
)
def test_a_refusal_names_the_registry_and_the_remedy_at_once(
    tmp_path: Path, registry: Registry, status: int, remedy: str
) -> None:
    registry.statuses = [status]
    with pytest.raises(ModelUnavailable, match=remedy) as refused:
        bring(tmp_path)
    assert registry.url.removeprefix("http://") in refused.value.details
    assert len(registry.asked) == 1


def test_a_registry_that_is_not_there_is_named(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable, match=r"127\.0\.0\.1:9 cannot be reached .*--from"):
        bring(tmp_path)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "npm.example.org")
    with pytest.raises(ModelUnavailable, match=r"cannot be asked for npm\.example\.org"):
        bring(tmp_path)
    assert registry.asked == []


def test_a_page_of_a_captive_portal_is_no_record(tmp_path: Path, registry: Registry) -> None:
    registry.record = lambda: b"<html>Log in to this network</html>"  # type: ignore[method-assign]
    with pytest.raises(ModelUnavailable, match=r"names no version 1\.0\.0"):
        bring(tmp_path)


def test_a_file_that_does_not_end_is_not_kept(tmp_path: Path, registry: Registry) -> None:
    registry.content = PACKED + b"more"
    with pytest.raises(ModelUnavailable, match=f"more than its {len(PACKED)} bytes"):
        bring(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_passes_on_the_public_record_is_asked_for_the_file(
    tmp_path: Path, registry: Registry
) -> None:
    registry.tarball_url = f"https://registry.npmjs.org{TARBALL_PATH}"
    assert bring(tmp_path) == PACKED
    assert [path for path, *_ in registry.asked] == [RECORD_PATH, TARBALL_PATH]


def test_a_login_goes_to_the_place_that_it_is_for(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = registry.url.removeprefix("http:")
    npmrc = tmp_path / "npmrc"
    npmrc.write_text(
        f"; a company's\n@scope:registry={registry.url}/npm/\n"
        f"{place}/npm/:_authToken=${{COMPANY_TOKEN}}\n{place}/other/:_authToken=not-this\n"
    )
    monkeypatch.delenv("NPM_CONFIG_REGISTRY")
    monkeypatch.setenv("NPM_CONFIG_USERCONFIG", str(npmrc))
    monkeypatch.setenv("COMPANY_TOKEN", "secret")
    registry.tarball_url = f"{registry.url}/elsewhere{TARBALL_PATH}"
    assert bring(tmp_path) == PACKED
    assert registry.asked == [
        (f"/npm{RECORD_PATH}", None, "Bearer secret"),
        (f"/elsewhere{TARBALL_PATH}", None, None),
    ]


def test_a_proxy_is_used_unless_the_host_is_excepted(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small registry answers a proxy's requests, too."""
    monkeypatch.setenv("npm_config_proxy", registry.url)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://npm.example.org/")
    registry.tarball_url = f"http://npm.example.org{TARBALL_PATH}"
    assert bring(tmp_path) == PACKED
    (tmp_path / PACKAGE.tarball_name).unlink()
    monkeypatch.setenv("npm_config_noproxy", "localhost,.example.org")
    with pytest.raises(ModelUnavailable, match=r"npm\.example\.org cannot be reached"):
        bring(tmp_path)


def test_a_certificate_of_the_company_is_trusted_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "company.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with npm_registry(context) as registry:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", registry.url)
        with pytest.raises(ModelUnavailable, match="SSL_CERT_FILE"):
            bring(tmp_path)
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(tmp_path / "absent.pem"))
        with pytest.raises(ModelUnavailable, match=r"absent\.pem cannot be read"):
            bring(tmp_path)
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(tmp_path / "company.pem"))
        assert bring(tmp_path) == PACKED
        (tmp_path / PACKAGE.tarball_name).unlink()
        monkeypatch.delenv("NODE_EXTRA_CA_CERTS")
        monkeypatch.setenv("npm_config_strict_ssl", "false")
        assert bring(tmp_path) == PACKED
