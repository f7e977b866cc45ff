"""Errors of the journal. Every message is one line that says what to do.

JournalError                   stops the start; while the service runs, callers catch it
├── JournalBusy
└── JournalUnavailable
    └── JournalDamaged
"""

from service.errors import StartError


class JournalError(StartError):
    """Base of them all."""


class JournalBusy(JournalError):  # noqa: N818 - named after the condition, as in service.errors
    """Another process has the journal."""


class JournalUnavailable(JournalError):  # noqa: N818 - as above
    """The journal is full or closed, or the disk refuses: nothing was written. The message says which."""


class JournalDamaged(JournalUnavailable):
    """The file is not a journal, or is damaged."""
