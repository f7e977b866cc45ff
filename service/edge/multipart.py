"""The images of a multipart/form-data body (RFC 7578), in memory: bytes in, bytes out.

The size of the whole body is limited already, so nothing is written to disk, and each part is a slice of the body.
"""

from email.message import Message
from email.parser import BytesHeaderParser

from service.errors import BadRequest, TooLarge

FORM = "multipart/form-data"
NAME = "image"
MAX_HEAD_BYTES = 8192  # of one part
_HEAD = BytesHeaderParser()


def boundary_of(content_type: str) -> bytes | None:
    """The boundary in a Content-Type of FORM; None for another type. Raises BadRequest for a form without one."""
    if content_type.partition(";")[0].strip().lower() != FORM:
        return None
    header = Message()
    header["content-type"] = content_type
    boundary = header.get_boundary()
    if not boundary or not boundary.isascii():
        raise BadRequest(f"the Content-Type names no boundary: send {FORM}; boundary=...")
    return boundary.encode()


def images_of(body: bytes, boundary: bytes, max_images: int) -> list[bytes]:
    """The contents of the parts named `image`, in order.

    Raises BadRequest for a body that is cut short, has other parts or has none, TooLarge for more than max_images.
    """
    _, *sections = (b"\r\n" + body).split(b"\r\n--" + boundary, max_images + 2)
    if not sections:
        raise BadRequest("the form has no part: send each image as a part named image")
    if len(sections) > max_images + 1:
        raise TooLarge(f"the form has more than {max_images} images: send fewer at a time")
    if not sections.pop().startswith(b"--"):
        raise BadRequest("the form is cut short: its last boundary is missing")
    if not sections:
        raise BadRequest("the form is empty: send each image as a part named image")
    return [_image(section) for section in sections]


def _image(section: bytes) -> bytes:
    """section: the bytes between two boundaries."""
    end = section.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if end < 0:
        raise BadRequest("a part of the form has no headers, or too long ones: it needs a Content-Disposition")
    name = _HEAD.parsebytes(section[:end].lstrip()).get_param("name", header="content-disposition")
    if name != NAME:
        raise BadRequest(f"a part of the form is named {name!r}: send each image as a part named {NAME}")
    return section[end + 4 :]
