"""What the Mailchimp Marketing API 3.0 accepts: typed models of the request bodies this project writes.

Source: the official 3.0.55/3.0.91 swagger and recorded refusals of the live API. The models are the strict reading of
it: where the server also takes a looser form (numeric strings, integers as ids), only the documented form is valid.

* An optional property may be left out but never be null (the server answers "Schema describes number, NULL found
  instead"), hence defaults such as ``""`` instead of ``None``; ``model_dump(exclude_unset=True)`` gives what was sent.
* Unknown properties are tolerated and dropped, as official plugins send undocumented ones.
* Validation errors never show their input: bodies hold e-mail addresses and names.

Use ``Model.model_validate_json(body)``. A violation is pydantic's ``ValidationError``; the sandbox turns it into
Mailchimp's own error document.
"""

from include.mailchimp.contract.audiences import (
    MAX_SEGMENT_CHANGES,
    Interest,
    InterestCategory,
    MergeField,
    MergeFieldOptions,
    MergeFieldPatch,
    SegmentBody,
    SegmentChanges,
    SegmentMember,
    SegmentOptions,
)
from include.mailchimp.contract.batches import Batch, Operation
from include.mailchimp.contract.body import Address, CustomerAddress, RequestBody, StoreAddress
from include.mailchimp.contract.carts import Cart, CartLine, CartLinePatch, CartPatch
from include.mailchimp.contract.customers import Customer, CustomerPatch, OrderCustomer, OrderCustomerPatch
from include.mailchimp.contract.members import (
    Location,
    MarketingPermission,
    Member,
    MemberFields,
    MemberPatch,
    MemberPut,
    Tag,
    Tags,
)
from include.mailchimp.contract.orders import Order, OrderLine, OrderLinePatch, OrderPatch, Outreach, Promo
from include.mailchimp.contract.products import (
    Product,
    ProductImage,
    ProductImagePatch,
    ProductPatch,
    ProductPut,
    Variant,
    VariantPatch,
)
from include.mailchimp.contract.promotions import PromoCode, PromoCodePatch, PromoRule, PromoRulePatch
from include.mailchimp.contract.stores import StoreCreate, StoreUpdate

__all__ = [
    "MAX_SEGMENT_CHANGES",
    "Address",
    "Batch",
    "Cart",
    "CartLine",
    "CartLinePatch",
    "CartPatch",
    "Customer",
    "CustomerAddress",
    "CustomerPatch",
    "Interest",
    "InterestCategory",
    "Location",
    "MarketingPermission",
    "Member",
    "MemberFields",
    "MemberPatch",
    "MemberPut",
    "MergeField",
    "MergeFieldOptions",
    "MergeFieldPatch",
    "Operation",
    "Order",
    "OrderCustomer",
    "OrderCustomerPatch",
    "OrderLine",
    "OrderLinePatch",
    "OrderPatch",
    "Outreach",
    "Product",
    "ProductImage",
    "ProductImagePatch",
    "ProductPatch",
    "ProductPut",
    "Promo",
    "PromoCode",
    "PromoCodePatch",
    "PromoRule",
    "PromoRulePatch",
    "RequestBody",
    "SegmentBody",
    "SegmentChanges",
    "SegmentMember",
    "SegmentOptions",
    "StoreAddress",
    "StoreCreate",
    "StoreUpdate",
    "Tag",
    "Tags",
    "Variant",
    "VariantPatch",
]
