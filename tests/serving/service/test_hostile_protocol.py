"""Requests to the paths of the Open Inference Protocol that are nearly right."""

import http.client
import json
import random
from collections import Counter

import pytest

from glasshouse.serving.service.service import Service
from tests.serving.service.conftest import running
from tests.serving.service.hostile_protocol import nearly_right


def statuses_of(service: Service, count: int) -> Counter[int]:
    """Send this many requests; each gets an answer that fits its status."""
    found: Counter[int] = Counter()
    with running(service) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for number in range(count):
            method, path, headers, body = nearly_right(random.Random(number))
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
            except (BrokenPipeError, ConnectionResetError):
                # The server may close while a body is sent that it has already refused.
                connection.close()
                found[0] += 1
                continue
            text = answer.read()
            found[answer.status] += 1
            assert answer.status < 500 or answer.status == 503, (number, text)
            if answer.status >= 400 and answer.getheader("X-Request-ID") and method != "HEAD":
                assert json.loads(text)["error"], number
        connection.close()
    assert (service.capacity.images, service.capacity.bytes) == (0, 0)
    return found


def test_nearly_right_requests_are_answered_or_refused_in_words(service: Service) -> None:
    found = statuses_of(service, 400)
    assert found[200] > 50 and found[422] > 50 and found[415] and found[404]


@pytest.mark.slow
def test_ten_thousand_nearly_right_requests(service: Service) -> None:
    found = statuses_of(service, 10_000)
    print(dict(found))
    assert found[200] > 1000 and found[422] > 1000
