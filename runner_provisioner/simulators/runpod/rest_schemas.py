"""The bodies that REST v2 takes (docs.runpod.io/api-reference-v2, openapi.json); unknown keys are refused."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_CUDA: Schema = {"type": "string", "pattern": r"^\d+\.\d+$"}
_CUDAS: Schema = {"type": "array", "items": _CUDA}


def _count(least: int) -> Schema:
    return {"type": "integer", "minimum": least}


def _object(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


_CONTAINER: dict[str, Schema] = {
    "args": _TEXT,
    "disk": _count(1),
    "env": {"type": "object", "additionalProperties": _TEXT},
    "image": _TEXT,
    "ports": _TEXTS,
    "registry": {"type": ["string", "null"]},
}
_PERSISTENT = _object(("size", "path"), size=_count(10), path=_TEXT)
_NETWORK = _object(("volumeId", "path"), volumeId=_TEXT, path=_TEXT)
_MOUNTS = _object(persistent=_PERSISTENT, network={"type": "array", "maxItems": 1, "items": _NETWORK})

CREATE_POD = _object(
    ("name",),
    **_CONTAINER,
    name=_NAME,
    cloud={"type": "string", "enum": ["SECURE", "COMMUNITY"]},
    cpu=_object(("id", "vcpuCount"), id=_NAME, vcpuCount=_count(2)),
    dataCenterIds=_TEXTS,
    globalNetworking=_FLAG,
    gpu=_object(
        ("id",),
        id=_TEXT,
        count=_count(1),
        allowedCudaVersions=_CUDAS,
        minCudaVersion=_CUDA,
        minRamPerGpu=_count(1),
        minVcpuCountPerGpu=_count(1),
    ),
    mounts=_MOUNTS,
    startJupyter=_FLAG,
    startSsh=_FLAG,
    templateId=_NAME,
)
# Sent by dstack 0.22.5 after the document of September 2026, which does not name them.
COMMAND: dict[str, Schema] = {"entrypoint": _TEXTS, "cmd": _TEXTS}
UPDATE_POD = _object(
    (), **_CONTAINER, name=_NAME, globalNetworking=_FLAG, locked=_FLAG, mounts=_MOUNTS, templateId=_TEXT
)
ACTION = _object(("action",), action={"type": "string", "enum": ["start", "stop", "restart", "terminate"]})
SSH_KEYS = _object(
    ("keys",),
    keys={
        "type": "array",
        "items": {"type": "string", "pattern": r"^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$"},
    },
)
_TEMPLATE: dict[str, Schema] = {
    **_CONTAINER,
    "name": _NAME,
    "allowedCudaVersions": _CUDAS,
    "category": {"type": "string", "enum": ["CPU", "NVIDIA", "AMD"]},
    "mounts": _object(persistent=_PERSISTENT),
    "public": _FLAG,
    "serverless": _FLAG,
    "startJupyter": _FLAG,
    "startSsh": _FLAG,
}
CREATE_TEMPLATE = _object(("name", "image"), **_TEMPLATE)
UPDATE_TEMPLATE = _object((), **_TEMPLATE)
CREATE_VOLUME = _object(
    ("name", "size", "dataCenter"),
    name=_NAME,
    size=_count(10),
    dataCenter=_NAME,
    type={"type": "string", "enum": ["STANDARD", "HIGH_PERFORMANCE"]},
)
UPDATE_VOLUME = _object(name=_NAME, size=_count(10))
CREATE_REGISTRY = _object(("name", "username", "password"), name=_NAME, username=_NAME, password=_NAME)


def create_pod(*, command: bool) -> Schema:
    """The body of a create; with `command` it may replace the image's entrypoint."""
    return {**CREATE_POD, "properties": {**CREATE_POD["properties"], **COMMAND}} if command else CREATE_POD
