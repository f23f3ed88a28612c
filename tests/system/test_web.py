"""What HTTP says of when to come back and where else to go."""

import http.client
import io
import urllib.error
import urllib.request

import pytest

from w2v_abx.system import web
from w2v_abx.system.web import retry_after


def test_retry_after_in_both_of_its_forms() -> None:
    assert retry_after("12") == 12
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert 3.1e9 < (retry_after("Fri, 21 Oct 2125 07:28:00 GMT") or 0) < 3.3e9
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_a_redirect_out_of_tls_is_refused() -> None:
    request = urllib.request.Request("https://host/a")
    headers = http.client.HTTPMessage()
    redirects = web._Redirects()
    with pytest.raises(urllib.error.HTTPError, match="from https to http, where nothing is protected: refused"):
        redirects.redirect_request(request, io.BytesIO(), 302, "Found", headers, "http://host/a")
    assert redirects.redirect_request(request, io.BytesIO(), 302, "Found", headers, "https://other/a") is not None
