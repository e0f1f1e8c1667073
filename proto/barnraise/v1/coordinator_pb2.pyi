from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetCharterRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetCharterReply(_message.Message):
    __slots__ = ("signed_charter",)
    SIGNED_CHARTER_FIELD_NUMBER: _ClassVar[int]
    signed_charter: bytes
    def __init__(self, signed_charter: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("signed_claim",)
    SIGNED_CLAIM_FIELD_NUMBER: _ClassVar[int]
    signed_claim: bytes
    def __init__(self, signed_claim: _Optional[bytes] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("signed_charter", "signed_admission", "head", "now_ms")
    SIGNED_CHARTER_FIELD_NUMBER: _ClassVar[int]
    SIGNED_ADMISSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    signed_charter: bytes
    signed_admission: bytes
    head: bytes
    now_ms: int
    def __init__(self, signed_charter: _Optional[bytes] = ..., signed_admission: _Optional[bytes] = ..., head: _Optional[bytes] = ..., now_ms: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetStatusReply(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: str
    def __init__(self, json: _Optional[str] = ...) -> None: ...

class ListCheckpointsRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class ListCheckpointsReply(_message.Message):
    __slots__ = ("signed_manifests",)
    SIGNED_MANIFESTS_FIELD_NUMBER: _ClassVar[int]
    signed_manifests: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, signed_manifests: _Optional[_Iterable[bytes]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("hash", "offset")
    HASH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    hash: str
    offset: int
    def __init__(self, hash: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class FetchChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
