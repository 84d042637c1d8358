"""Requests are counted for each address within a sliding minute."""

from s2igan.web import limits
from s2igan.web.limits import Rate


def test_more_than_so_many_in_a_minute_wait_until_the_first_is_a_minute_old():
    now = [100.0]
    rate = Rate(2, clock=lambda: now[0])
    assert rate.wait_seconds("a") == 0
    now[0] += 20
    assert rate.wait_seconds("a") == 0
    assert rate.wait_seconds("a") == 40
    assert rate.wait_seconds("b") == 0
    now[0] += 40
    assert rate.wait_seconds("a") == 0
    assert rate.wait_seconds("a") == 20


def test_the_longest_silent_address_is_dropped(monkeypatch):
    monkeypatch.setattr(limits, "ADDRESSES", 2)
    rate = Rate(1, clock=lambda: 0.0)
    for address in ("a", "b", "c"):
        assert rate.wait_seconds(address) == 0
    assert rate.wait_seconds("c") > 0
    assert rate.wait_seconds("a") == 0
