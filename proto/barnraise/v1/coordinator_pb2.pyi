from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetCharterRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class GetCharterReply(_message.Message):
    __slots__ = ("signed_charter", "head")
    SIGNED_CHARTER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    signed_charter: bytes
    head: bytes
    def __init__(self, signed_charter: _Optional[bytes] = ..., head: _Optional[bytes] = ...) -> None: ...

class JoinRequest(_message.Message):
    __slots__ = ("signed_claim",)
    SIGNED_CLAIM_FIELD_NUMBER: _ClassVar[int]
    signed_claim: bytes
    def __init__(self, signed_claim: _Optional[bytes] = ...) -> None: ...

class JoinReply(_message.Message):
    __slots__ = ("signed_charter", "signed_admission", "head")
    SIGNED_CHARTER_FIELD_NUMBER: _ClassVar[int]
    SIGNED_ADMISSION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    signed_charter: bytes
    signed_admission: bytes
    head: bytes
    def __init__(self, signed_charter: _Optional[bytes] = ..., signed_admission: _Optional[bytes] = ..., head: _Optional[bytes] = ...) -> None: ...

class EvaluateRequest(_message.Message):
    __slots__ = ("signed_evaluation",)
    SIGNED_EVALUATION_FIELD_NUMBER: _ClassVar[int]
    signed_evaluation: bytes
    def __init__(self, signed_evaluation: _Optional[bytes] = ...) -> None: ...

class EvaluateReply(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    def __init__(self, outcome: _Optional[str] = ...) -> None: ...

class AuditRequest(_message.Message):
    __slots__ = ("signed_call",)
    SIGNED_CALL_FIELD_NUMBER: _ClassVar[int]
    signed_call: bytes
    def __init__(self, signed_call: _Optional[bytes] = ...) -> None: ...

class AuditReply(_message.Message):
    __slots__ = ("signed_answer",)
    SIGNED_ANSWER_FIELD_NUMBER: _ClassVar[int]
    signed_answer: bytes
    def __init__(self, signed_answer: _Optional[bytes] = ...) -> None: ...

class ReportFaultRequest(_message.Message):
    __slots__ = ("signed_report",)
    SIGNED_REPORT_FIELD_NUMBER: _ClassVar[int]
    signed_report: bytes
    def __init__(self, signed_report: _Optional[bytes] = ...) -> None: ...

class ReportFaultReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

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
