"""scripts/lib/pip_to_uv.py: pip's settings in uv's words."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def module():
    spec = importlib.util.spec_from_file_location("pip_to_uv", ROOT / "scripts" / "lib" / "pip_to_uv.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_later_sections_of_pips_settings_win(module):
    lines = [
        ":env:.index-url='https://three/simple'\n",
        "install.index-url='https://two/simple'\n",
        "global.index-url='https://one/simple'\n",
        "global.timeout='60'\n",
        "list.format='columns'\n",
    ]
    assert module.read_settings(lines) == {"index-url": "https://three/simple", "timeout": "60"}


def test_each_setting_has_its_variable(module, tmp_path):
    settings = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "\nhttps://a/simple\nhttps://b/simple",
        "find-links": f"{tmp_path} {tmp_path}/missing https://c/wheels",
        "no-index": "true",
        "cert": "/etc/ca.pem",
        "default-timeout": "180",
        "trusted-host": "mirror",
    }
    assert module.translate(settings, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": f"{tmp_path},https://c/wheels",
        "UV_NO_INDEX": "1",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INSECURE_HOST": "mirror",
    }


def test_what_is_said_to_uv_itself_stays(module):
    settings = {
        "index-url": "https://mirror/simple",
        "extra-index-url": "https://a/simple",
        "cert": "/etc/ca.pem",
    }
    environment = {
        "UV_INDEX_URL": "https://own/simple",
        "UV_INDEX": "https://b/simple",
        "SSL_CERT_FILE": "/my.pem",
    }
    assert module.translate(settings, environment) == {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_no_settings_are_no_variables(module):
    assert module.translate({}, {}) == {}
