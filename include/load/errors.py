"""Why a run stops for good: errors that no retry can mend. Light to import, because DAG files name them."""

from __future__ import annotations


class RunStopped(RuntimeError):
    """A person has to change something before another try can succeed; the text says what."""


class PreflightFailed(RunStopped):
    """The run can't start. Nothing was sent."""


class MailchimpUnreachable(RuntimeError):
    """Mailchimp doesn't answer; another try may succeed."""


class TooManyRejected(RunStopped):
    """More records were rejected than the store's setting allows; all others were sent."""


class TooManyDeletions(RunStopped):
    """The run would delete more at Mailchimp than the store's settings allow; it deletes nothing."""
