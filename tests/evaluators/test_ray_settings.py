"""Variables with which Ray cannot even be imported are named."""

import pytest

from evovlm.evaluators.ray_settings import refuse_settings
from evovlm.system.errors import UserError

pytest.importorskip("ray", reason="the extra evovlm[ray] is not installed")


def test_a_variable_with_which_ray_ends_the_process_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_gcs_server_request_timeout_seconds", "junk")
    with pytest.raises(UserError, match="RAY_gcs_server_request_timeout_seconds: Ray ends a process that loads it"):
        refuse_settings()
    monkeypatch.setenv("RAY_gcs_server_request_timeout_seconds", "5")
    refuse_settings()
