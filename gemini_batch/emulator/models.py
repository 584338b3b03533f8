"""The calls of a model: generateContent, whole and streamed, countTokens, get and list."""

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gemini_batch.emulator.batches import known_model, unknown_name
from gemini_batch.emulator.calls import Calls
from gemini_batch.emulator.dice import canonical
from gemini_batch.emulator.lines import check_request
from gemini_batch.emulator.proto import BadLineError, check_count
from gemini_batch.emulator.service import Service
from gemini_batch.emulator.streaming import as_array, as_events, pieces
from gemini_batch.emulator.wire import Json, JsonReply, error_of_status, invalid, read_json

# Models of the Rate limits page (2026-08-18) that take batches; any other `gemini-…` is served as well.
MODELS = (
    "gemini-3.8-flash", "gemini-3.7-flash", "gemini-3.6-flash", "gemini-3.5-flash", "gemini-3.5-flash-lite",
    "gemini-3.1-pro-preview", "gemini-3.1-flash-lite", "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite",
    "gemini-embedding-001",
)  # fmt: skip
_INPUT_TOKENS, _OUTPUT_TOKENS = 1_048_576, 65_536  # models page, Gemini 2.5 and 3
_EMBEDDING_TOKENS = 2048


class ModelsApi:
    def __init__(self, service: Service, calls: Calls) -> None:
        self._service = service
        self._calls = calls

    async def generate(self, request: Request) -> Response:
        return JsonReply(await self._answer(request))

    async def stream(self, request: Request) -> Response:
        """Server-sent events for `?alt=sse`, else a JSON array; what is refused is refused before the first piece."""
        shown = pieces(await self._answer(request) or {})
        if request.query_params.get("alt") == "sse":
            return StreamingResponse(as_events(shown), media_type="text/event-stream")
        return StreamingResponse(as_array(shown), media_type="application/json")

    async def _answer(self, request: Request) -> Json | None:
        """A GenerateContentResponse; None where a user's own result says so. Raises ApiError."""
        model, body = known_model(request, "generateContent"), await read_json(request)
        try:
            check_request(body)
            canonical(body)
        except BadLineError as e:
            raise unknown_name(e) from e
        except orjson.JSONEncodeError as e:
            raise invalid("Invalid JSON payload received. Nested too deeply.") from e
        respondent = self._service.respondent(self._calls.owner_of(request), model)
        result = await asyncio.to_thread(respondent.answer, body, "")
        if "response" not in result:
            raise error_of_status(result.get("error") or result.get("status") or {})
        return result["response"]  # type: ignore[no-any-return]

    async def count_tokens(self, request: Request) -> Response:
        model, body = known_model(request, "countTokens"), await read_json(request)
        try:
            counted = check_count(body)
        except BadLineError as e:
            raise unknown_name(e) from e
        respondent = self._service.respondent(self._calls.owner_of(request), model)
        usage = respondent.usage(counted)
        return JsonReply({"totalTokens": usage.total, "promptTokensDetails": usage.details()})

    async def get(self, request: Request) -> Response:
        return JsonReply(_model(known_model(request, "models.get")))

    async def list(self, request: Request) -> Response:
        return JsonReply({"models": [_model(name) for name in MODELS]})


def _model(name: str) -> Json:
    embeds = "embedding" in name
    methods = ["asyncBatchEmbedContent"] if embeds else ["generateContent", "batchGenerateContent", "countTokens"]
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "inputTokenLimit": _EMBEDDING_TOKENS if embeds else _INPUT_TOKENS,
        "outputTokenLimit": 1 if embeds else _OUTPUT_TOKENS,
        "supportedGenerationMethods": methods,
    }
