"""Options that funcX and Globus Compute have, and that mean nothing here; others are mistakes."""

from __future__ import annotations

import difflib
import inspect
import logging
from collections.abc import Callable, Iterable
from typing import Any

from fxhpc import errors

log = logging.getLogger(__name__)

#: What clients needed to log in, to find the service, and to talk with it.
OF_CLIENTS = frozenset(
    (
        *("app", "app_name", "authorizer", "base_url", "check_endpoint_version"),
        *("code_serialization_strategy", "data_serialization_strategy", "do_version_check"),
        *("environment", "force_login", "funcx_home", "funcx_service_address", "fx_authorizer"),
        *("http_timeout", "local_compute_services", "login_manager", "openid_authorizer"),
        *("results_ws_uri", "search_authorizer", "service_name", "transport_params"),
        *("use_offprocess_checker", "warn_about_url_mismatch", "web_service_address"),
    )
)

#: Of `create_batch` and `Batch`.
OF_BATCHES = frozenset(
    (
        *("create_websocket_queue", "request_id", "result_serializers", "serializer"),
        *("user_endpoint_config", "user_runtime"),
    )
)

#: Of executors.
OF_EXECUTORS = frozenset(
    (
        *("amqp_port", "api_burst_limit", "api_burst_window_s", "batch_enabled", "batch_interval"),
        *("result_serializers", "serializer"),
    )
)


def check(call: Callable[..., Any], name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Ignore those of these options that are known, and refuse others.

    Args:
        call: whose options they would be.
        name: its name, for people.

    Raises:
        UnknownOption: there is one.
    """
    given, known = list(given), frozenset(known)
    for option in given:
        if option not in known:
            own = [one for one in inspect.signature(call).parameters if one != "self"]
            close = difflib.get_close_matches(option, own, 1, 0.6)
            raise errors.UnknownOption(name, option, close[0] if close else "")
    if given:
        log.debug("options without a meaning here are ignored: %s", ", ".join(given))
