"""Body of /batches."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from include.mailchimp.contract.body import RequestBody
from include.mailchimp.fields import Text

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Operation(RequestBody):
    """One operation of a batch: ``path`` relative to /3.0, ``body`` the JSON body as a string."""

    method: Method
    path: Annotated[Text, StringConstraints(pattern=r"^/")]
    params: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, Any] = Field(default_factory=dict)
    body: Text = ""
    operation_id: Text = ""


class Batch(RequestBody):
    """POST /batches: at most 1,000 operations; one malformed operation refuses all of them."""

    operations: Annotated[list[Operation], Field(min_length=1, max_length=1000)]
