"""The error tree of the service: errors that reach a caller, and errors that stop the start.

ServiceError                   with its HTTP status on the class
├── BadRequest            400  malformed
│   └── InvalidLabel      422  a label that does not fit the task
├── Unauthorized          401  no key
│   └── Forbidden         403  an unknown key
├── NotFound              404  no such path, model, version or sample
│   └── Erased            404  a sample that was erased: a case of its own in the code, not over HTTP
├── MethodNotAllowed      405  the path exists, for another method
├── UploadTimeout         408  the body did not come in time
├── Conflict              409  the state does not allow it
│   └── Held              409  another annotator or token holds the sample: a case of its own in the code
├── TooLarge              413  too many bytes or pixels
├── UnsupportedImage      415  not an image type that the service reads
├── UndecodableImage      422  starts like an image, cannot be decoded
├── ModelFault            500  the model raised, or returned a number that is not finite
├── Unavailable           503  a worker or the queue's server is away; Retry-After
├── QueueFull             429  more requests than the service admits; Retry-After
└── DeadlineExceeded      504  the answer would have come too late

StartError                     the service cannot start: `losscast serve` prints the message
├── EngineError                no usable ONNX Runtime or provider (service.inference.engine)
├── JournalError               the journal cannot be used (service.labelling.journal.errors)
└── PrivateValkeyError         the private Valkey does not come up (service.redis.private_valkey)

Inner code raises these. `service.edge.reply` sends a ServiceError, `service.server` lets a StartError end the process.
The contract with `models` has errors of its own: `versions.registry` raises a BundleError of the default model again as
a StartError, and `inference.engine` a RuntimeMissing as an EngineError.
"""

from typing import ClassVar


class StartError(Exception):
    """Base of all errors that stop the start. The message is one line that says why and what to do."""


class ServiceError(Exception):
    """Base of all errors that reach a caller. The message is one line that says what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry_after_s: ClassVar[int | None] = None


class BadRequest(ServiceError):  # noqa: N818 - the HTTP names of these conditions carry no suffix
    status, code = 400, "malformed"


class InvalidLabel(BadRequest):
    status, code = 422, "invalid_label"


class Unauthorized(ServiceError):  # noqa: N818 - as above
    status, code = 401, "unauthorized"


class Forbidden(Unauthorized):
    status, code = 403, "forbidden"


class NotFound(ServiceError):  # noqa: N818 - as above
    status, code = 404, "not_found"


class Erased(NotFound):
    pass


class MethodNotAllowed(ServiceError):  # noqa: N818 - as above
    status, code = 405, "method_not_allowed"


class UploadTimeout(ServiceError):  # noqa: N818 - as above
    status, code = 408, "upload_timeout"


class Conflict(ServiceError):  # noqa: N818 - as above
    status, code = 409, "conflict"


class Held(Conflict):
    pass


class TooLarge(ServiceError):  # noqa: N818 - as above
    status, code = 413, "too_large"


class UnsupportedImage(ServiceError):  # noqa: N818 - as above
    status, code = 415, "unsupported_image"


class UndecodableImage(ServiceError):  # noqa: N818 - as above
    status, code = 422, "undecodable_image"


class ModelFault(ServiceError):  # noqa: N818 - as above
    status, code = 500, "model_fault"


class Unavailable(ServiceError):  # noqa: N818 - as above
    status, code, retry_after_s = 503, "unavailable", 5


class QueueFull(ServiceError):  # noqa: N818 - as above
    status, code, retry_after_s = 429, "queue_full", 1


class DeadlineExceeded(ServiceError):  # noqa: N818 - as above
    status, code = 504, "deadline_exceeded"
