"""What every reply shares: Google's error shape, timestamps, paging, both spellings of a field.

Field names are looked up in camelCase and snake_case alike, as proto-JSON does.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

Json = dict[str, Any]
T = TypeVar("T")

MAX_PAGE = 100

# Recorded batch-create 429: a Help link, no RetryInfo, no QuotaFailure (langchain4j PR #3942).
_QUOTA_HELP = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ],
}


class ApiError(Exception):
    """A reply other than 200, in Google's shape."""

    def __init__(self, code: int, status: str, message: str, details: Sequence[Json] = (), *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or status.lower()
        """What the emulator counts it under; the reply does not show it."""
        self.code = code
        self.status = status
        self.message = message
        self.details = list(details)

    def body(self) -> Json:
        error: Json = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        return {"error": error}


def invalid(message: str, details: Sequence[Json] = (), *, reason: str = "") -> ApiError:
    return ApiError(400, "INVALID_ARGUMENT", message, details, reason=reason)


def not_found(message: str = "Requested entity was not found.") -> ApiError:
    return ApiError(404, "NOT_FOUND", message)


def no_access(file_id: str) -> ApiError:
    return ApiError(403, "PERMISSION_DENIED", no_access_message(file_id))


def no_access_message(file_id: str) -> str:
    return f"You do not have permission to access the File {file_id} or it may not exist."


def quota_exceeded(reason: str = "", message: str = "") -> ApiError:
    message = message or (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: "
        "https://ai.dev/rate-limit. "
    )
    return ApiError(429, "RESOURCE_EXHAUSTED", message, [_QUOTA_HELP], reason=reason)


def generate_quota_exceeded(reason: str) -> ApiError:
    """The recorded 429 of generateContent, which unlike a batch's tells which quota and for how long."""
    details: list[Json] = [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [
                {
                    "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                    "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
                    "quotaDimensions": {"model": "gemini", "location": "global"},
                    "quotaValue": "20",
                }
            ],
        },
        _QUOTA_HELP,
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "57.238747106s"},
    ]
    return ApiError(429, "RESOURCE_EXHAUSTED", quota_exceeded().message, details, reason=reason)


def unavailable() -> ApiError:
    return ApiError(503, "UNAVAILABLE", "The service is currently unavailable.")


def internal() -> ApiError:
    return ApiError(500, "INTERNAL", "An internal error has occurred.")


def key_missing() -> ApiError:
    message = "Method doesn't allow unregistered callers (callers without established identity)."
    return ApiError(403, "PERMISSION_DENIED", message, reason="no_key")


def key_refused() -> ApiError:
    details = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return invalid("API key not valid. Please pass a valid API key.", [details], reason="key")


_AS_FAULT: dict[str, Callable[[], ApiError]] = {
    "400": lambda: invalid("Request contains an invalid argument."),
    "401": lambda: ApiError(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "403": lambda: ApiError(403, "PERMISSION_DENIED", "The caller does not have permission"),
    "404": not_found,
    "408": lambda: ApiError(408, "CANCELLED", "The operation was cancelled."),
    "429": quota_exceeded,
    "500": internal,
    "503": unavailable,
}


def error_of(code: str, reason: str) -> ApiError:
    """What a fault answers with."""
    error = _AS_FAULT[code]()
    error.reason = reason
    return error


_HTTP_OF = {3: "400", 5: "404", 7: "403", 8: "429", 14: "503", 16: "401"}


def error_of_status(status: Json) -> ApiError:
    """A google.rpc.Status as the answer to a call of its own."""
    code = status.get("code")
    error = _AS_FAULT[_HTTP_OF.get(code, "500") if isinstance(code, int) else "500"]()
    return ApiError(error.code, error.status, str(status.get("message") or error.message))


class JsonReply(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


async def read_json(request: Request) -> Json:
    """The body as an object; an empty body counts as `{}`."""
    raw = await request.body()
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError as e:
        raise invalid(f"Invalid JSON payload received. {e}") from e
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. Expected an object.")
    return body


def base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.headers.get('host', request.url.netloc)}"


def member(message: Mapping[str, Any], name: str) -> Any:
    """The field called `name` (camelCase) under either spelling; None when absent."""
    value = message.get(name)
    return message.get(snake_case(name)) if value is None else value


def message_member(message: Mapping[str, Any], name: str) -> Json:
    """Like `member`, for a field that holds a message; `{}` when absent."""
    value = member(message, name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value at '{snake_case(name)}': expected an object.")
    return value


def key_of(line: Json) -> str:
    """`key` in a file, `metadata.key` in an inline request; "" for neither."""
    key: str | None = line.get("key")
    return key if key is not None else str((line.get("metadata") or {}).get("key", ""))


def text_member(message: Mapping[str, Any], name: str) -> str:
    value = member(message, name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid(f"Invalid value at '{snake_case(name)}': expected a string.")
    return value


@cache
def snake_case(name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: "_" + capital[0].lower(), name)


def both_spellings(*names: str) -> frozenset[str]:
    return frozenset(names) | frozenset(map(snake_case, names))


def timestamp(moment: datetime) -> str:
    """Nine digits of a second, as batch operations are stamped."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def short_timestamp(moment: datetime) -> str:
    """Six digits of a second, as files are stamped."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def query_int(request: Request, name: str) -> int | None:
    text = member(request.query_params, name)
    if text is None or text == "":
        return None
    number = whole(text)
    if number is None:
        raise invalid(f"Invalid value at '{snake_case(name)}': {text!r}")
    return number


def whole(text: str) -> int | None:
    """The number that up to 24 plain digits say; None for any other text."""
    return int(text) if re.fullmatch(r"[0-9]{1,24}", text) else None


def page(
    newest_first: Sequence[T], order: Callable[[T], int], request: Request, default_size: int
) -> tuple[list[T], Json]:
    """The page a list call asks for and `{"nextPageToken": ...}` or `{}`.

    A token is the `order` of the last item shown, so that new items do not shift the pages.
    """
    size = min(query_int(request, "pageSize") or default_size, MAX_PAGE)
    before = query_int(request, "pageToken")
    rest = [item for item in newest_first if before is None or order(item) < before]
    shown = rest[:size]
    return shown, {"nextPageToken": str(order(shown[-1]))} if len(rest) > size else {}


def place_in_time(moment: datetime, serial: int) -> int:
    """A number that orders what is listed newest first, the later made first among equals."""
    return int(moment.timestamp() * 1_000_000) * 1_000_000 + serial % 1_000_000
