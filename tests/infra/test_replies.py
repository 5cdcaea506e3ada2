"""What JetStream's replies mean: done, refused, or not possible for now."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from nats.aio.msg import Msg

from penstock.contracts.errors import Unavailable
from penstock.infra.bus import StreamError
from penstock.infra.replies import ack_of, api_answer

NOT_AVAILABLE, NOT_LEADER, NOT_READY = 10008, 10009, 10163
WRONG_SEQUENCE, NOT_FOUND, NO_PLACE = 10071, 10059, 10005


def reply(err_code: int) -> Msg:
    error = {"code": 503, "err_code": err_code, "description": "said the server"}
    client: Any = None
    return Msg(client, "subject", "", msgspec.json.encode({"error": error}))


@pytest.mark.parametrize("code", [NOT_AVAILABLE, NOT_LEADER, NOT_READY])
def test_what_a_cluster_cannot_do_while_it_elects_is_unavailable(code: int) -> None:
    with pytest.raises(Unavailable, match="cannot do this now: said the server"):
        ack_of(reply(code))
    with pytest.raises(Unavailable, match="cannot do this now: said the server"):
        api_answer(reply(code), "STREAM.INFO.S")


@pytest.mark.parametrize("code", [WRONG_SEQUENCE, NOT_FOUND, NO_PLACE])
def test_what_will_not_pass_is_a_refusal_with_its_number(code: int) -> None:
    with pytest.raises(StreamError, match="said the server") as caught:
        ack_of(reply(code))
    assert caught.value.err_code == code
    with pytest.raises(StreamError) as caught:
        api_answer(reply(code), "STREAM.INFO.S")
    assert caught.value.err_code == code
